package clock

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// packetSize is that of a header without extensions (RFC 5905, 7.3).
const packetSize = 48

// Fields of the first byte (RFC 5905, 7.3).
const (
	leapAlarm  = 3 // the server's clock is not synchronised
	modeClient = 3
	modeServer = 4
	version    = 4
)

// ntpEpoch is 1900-01-01 in Unix seconds; era1 is when the 32 bits of seconds
// wrap (2036-02-07): smaller values are read as after it (RFC 4330, 3).
const (
	ntpEpoch = -2208988800
	era      = 1 << 32
)

// Sample is one server's answer.
type Sample struct {
	Server  string
	Offset  time.Duration // to be added to our clock
	Delay   time.Duration // round trip
	Stratum int
}

// maxDistance is the largest root distance that is believed (RFC 5905, MAXDIST is 1 s).
const maxDistance = 1500 * time.Millisecond

// NoServerError says why no time server's answer was good.
type NoServerError struct{ Reasons []string }

func (e *NoServerError) Error() string {
	return "no time server answered: " + strings.Join(e.Reasons, "; ")
}

// Code is the stable code of this error.
func (*NoServerError) Code() string { return "TIME-NO-SERVER" }

// Query asks all servers (HOST:PORT) at once, again every second while none
// has answered, and returns the best answer: the median offset, so that one
// server that lies is outvoted by two that do not. It ends 300 ms after the
// first good answer, when all have answered, or with ctx.
func Query(ctx context.Context, servers []string) (Sample, error) {
	type result struct {
		s   Sample
		err error
	}
	results := make(chan result, len(servers))
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, server := range servers {
		go func() {
			s, err := ask(asking, server)
			results <- result{s, err}
		}()
	}
	var good []Sample
	var reasons []string
	var patience <-chan time.Time
	for range servers {
		select {
		case r := <-results:
			if r.err != nil {
				reasons = append(reasons, fmt.Sprintf("%s: %v", r.s.Server, r.err))
				continue
			}
			good = append(good, r.s)
			if patience == nil {
				patience = time.After(300 * time.Millisecond)
			}
			continue
		case <-patience:
		case <-ctx.Done():
			reasons = append(reasons, "the others did not answer in time")
		}
		break
	}
	if len(good) == 0 {
		return Sample{}, &NoServerError{Reasons: reasons}
	}
	slices.SortFunc(good, func(a, b Sample) int { return int(a.Offset/time.Microsecond) - int(b.Offset/time.Microsecond) })
	return good[(len(good)-1)/2], nil
}

// ask sends requests to one server until a good answer or the end of ctx.
func ask(ctx context.Context, server string) (Sample, error) {
	s := Sample{Server: server}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return s, plain(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	last := errors.New("no answer")
	for ctx.Err() == nil {
		var nonce [8]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return s, err
		}
		request := make([]byte, packetSize)
		request[0] = version<<3 | modeClient
		copy(request[40:], nonce[:]) // the transmit timestamp need not be a time, only unpredictable
		sent := time.Now()
		if _, err := conn.Write(request); err != nil {
			return s, plain(err)
		}
		_ = conn.SetReadDeadline(sent.Add(time.Second))
		answer := make([]byte, 512)
		for {
			n, err := conn.Read(answer)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				break // ask again
			}
			if err != nil {
				if ctx.Err() != nil {
					return s, last
				}
				last = plain(err)
				select { // refused: the server may be starting
				case <-time.After(time.Until(sent.Add(time.Second))):
				case <-ctx.Done():
				}
				break
			}
			got, err := parse(answer[:n], nonce, sent, time.Since(sent))
			if errors.Is(err, errForeign) {
				continue
			}
			if err != nil {
				return s, err
			}
			got.Server = server
			return got, nil
		}
	}
	return s, last
}

// plain takes the addresses out of an error that names the server already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// errForeign: an answer to something that we did not ask.
var errForeign = errors.New("an answer to another request")

// parse checks an answer and computes the offset. sent is our clock when the
// request left, took the round trip by the monotonic clock.
func parse(b []byte, nonce [8]byte, sent time.Time, took time.Duration) (Sample, error) {
	if len(b) < packetSize || b[0]&7 != modeServer || [8]byte(b[24:32]) != nonce {
		return Sample{}, errForeign
	}
	s := Sample{Stratum: int(b[1])}
	if s.Stratum == 0 {
		return s, fmt.Errorf("it sends us away (%s)", printable(b[12:16]))
	}
	if s.Stratum > 15 || b[0]>>6 == leapAlarm {
		return s, errors.New("its own clock is not synchronised")
	}
	received, transmitted := stamp(b[32:40]), stamp(b[40:48])
	if received.IsZero() || transmitted.IsZero() {
		return s, errors.New("its answer holds no time")
	}
	if distance := short(b[4:8])/2 + short(b[8:12]); distance > maxDistance {
		return s, fmt.Errorf("its time is too uncertain (%v)", distance.Round(time.Millisecond))
	}
	held := transmitted.Sub(received)
	if held < 0 || held > took {
		held = 0
	}
	s.Delay = took - held
	s.Offset = received.Sub(sent) - s.Delay/2
	return s, nil
}

// printable keeps a kiss code (RFC 5905, 7.4) from messing up a console.
func printable(b []byte) string {
	out := []byte{}
	for _, c := range b {
		if c > ' ' && c < 0x7f {
			out = append(out, c)
		}
	}
	return string(out)
}

// stamp reads a 64-bit timestamp; the zero one is the zero time.
func stamp(b []byte) time.Time {
	sec, frac := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if sec == 0 && frac == 0 {
		return time.Time{}
	}
	if sec < 1<<31 {
		sec += era
	}
	return time.Unix(sec+ntpEpoch, frac*1e9>>32)
}

// short reads a 32-bit fixed point number of seconds.
func short(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second >> 16
}
