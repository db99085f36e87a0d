package clock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	// retry is how long one request's answer is waited for.
	retry = time.Second
	// patience is how long the others are waited for, after the first good answer.
	patience = time.Second
	// maxAnswer bounds a datagram; extensions behind the header are not read.
	maxAnswer = 1024
)

// NoServerError says why no time server's answer was good.
type NoServerError struct{ Reasons []string }

func (e *NoServerError) Error() string {
	return "no time server answered: " + strings.Join(e.Reasons, "; ")
}

// Code is the stable code of this error.
func (*NoServerError) Code() string { return "TIME-NO-SERVER" }

// Hint says what to do.
func (*NoServerError) Hint() string {
	return "look at the way to the servers, or name others; certificates are checked against the floor of the clock meanwhile"
}

// Client asks time servers.
type Client struct {
	Servers []string // HOST:PORT
	// Floor: a server that shows an earlier time is wrong for certain. Zero: none is.
	Floor time.Time
}

// Query asks servers without a floor.
func Query(ctx context.Context, servers []string) (Sample, error) {
	return Client{Servers: servers}.Query(ctx)
}

// result is what became of one server.
type result struct {
	s   Sample
	err error
}

// Query asks all servers at once, again every second while one has not answered, and returns the best answer: so that a
// server that lies is outvoted by two that do not. It ends when most of the servers agree, when all have answered, a
// second after the first good answer, or with ctx; the error is a *NoServerError.
func (c Client) Query(ctx context.Context) (Sample, error) {
	if len(c.Servers) == 0 {
		return Sample{}, &NoServerError{Reasons: []string{"none is configured"}}
	}
	results := make(chan result, len(c.Servers)) // nobody is held up by our leaving early
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, server := range c.Servers {
		go func() {
			s, err := c.ask(asking, server)
			results <- result{s, err}
		}()
	}
	good, reasons := c.collect(ctx, results)
	if len(good) == 0 {
		return Sample{}, &NoServerError{Reasons: reasons}
	}
	best, agreed := choose(good)
	best.Disputed = 2*agreed <= len(good)
	return best, nil
}

func (c Client) collect(ctx context.Context, results <-chan result) (good []Sample, reasons []string) {
	var enough <-chan time.Time
	for answered := 0; answered < len(c.Servers); answered++ {
		select {
		case r := <-results:
			if r.err != nil {
				reasons = append(reasons, fmt.Sprintf("%s: %v", r.s.Server, r.err))
				continue
			}
			good = append(good, r.s)
			if _, agreed := choose(good); 2*agreed > len(c.Servers) {
				return good, reasons
			}
			if enough == nil {
				enough = time.After(patience)
			}
		case <-enough:
			return good, reasons
		case <-ctx.Done():
			// Those who are being asked say what they have heard so far.
			for ; answered < len(c.Servers); answered++ {
				if r := <-results; r.err != nil {
					reasons = append(reasons, fmt.Sprintf("%s: %v", r.s.Server, r.err))
				} else {
					good = append(good, r.s)
				}
			}
			return good, reasons
		}
	}
	return good, reasons
}

// ask sends requests to one server until a good answer, a refusal, or the end of ctx.
func (c Client) ask(ctx context.Context, server string) (Sample, error) {
	failed := Sample{Server: server}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return failed, plain(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	last := errors.New("no answer")
	for ctx.Err() == nil {
		start := time.Now()
		s, err := c.once(conn)
		switch {
		case err == nil:
			s.Server = server
			return s, nil
		case errors.Is(err, errRefuses):
			return failed, errors.Unwrap(err)
		case ctx.Err() == nil && !errors.Is(err, errSilent):
			last = err
		}
		select { // a server that starts refuses at first: its second passes all the same
		case <-time.After(retry - time.Since(start)):
		case <-ctx.Done():
		}
	}
	return failed, last
}

var (
	// errSilent: no answer within a second.
	errSilent = errors.New("no answer")
	// errRefuses marks an answer after which asking again is no use.
	errRefuses = errors.New("refused")
)

// refusal is errRefuses with the reason.
type refusal struct{ error }

func (r refusal) Unwrap() error        { return r.error }
func (r refusal) Is(target error) bool { return target == errRefuses }

// once sends one request and reads for a second.
func (c Client) once(conn net.Conn) (Sample, error) {
	var n nonce
	rand.Read(n[:]) //nolint:errcheck // it never fails (crypto/rand)
	sent := Now()
	start := time.Now()
	if err := conn.SetReadDeadline(start.Add(retry)); err != nil {
		return Sample{}, plain(err)
	}
	if _, err := conn.Write(request(n)); err != nil {
		return Sample{}, plain(err)
	}
	answer := make([]byte, maxAnswer)
	for {
		size, err := conn.Read(answer)
		took := time.Since(start)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return Sample{}, errSilent
			}
			return Sample{}, plain(err)
		}
		s, err := parse(answer[:size], n, sent.Wall, took)
		switch {
		case errors.Is(err, errForeign):
			continue
		case errors.Is(err, errUnsynchronised): // it may be starting, as we are
			return Sample{}, err
		case err != nil:
			return Sample{}, refusal{err}
		}
		s.sent = sent
		if now := s.Now(); now.Before(c.Floor) {
			return Sample{}, refusal{fmt.Errorf("its time is %s, which is past for certain", now.UTC().Format(time.RFC3339))}
		}
		return s, nil
	}
}

// plain takes the addresses out of an error that names the server already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
