package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A station is who asks, by DHCPv4 or DHCPv6: an interface, with a clock.
type station struct {
	protocol, link string               // as messages say them: "DHCP", "eth0"
	now            func() time.Duration // CLOCK_BOOTTIME
	jitter         func(time.Duration) time.Duration
}

func (s station) String() string { return s.protocol + " on " + s.link }

// jitter keeps machines that started together from asking together: a tenth more or less.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// backoff is the pause after the nth message: 1 s, then twice as long each time, at most 64 s (RFC 2131, 4.1, starts at
// 4 s; on a boot the first message is often lost to a switch that is still thinking).
func backoff(n int) time.Duration { return time.Second << min(n, 6) }

// sleep waits; false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A receiver is the half of a wire that a dialogue listens to.
type receiver interface {
	// receive returns the next message for us, whoever sent it; an error once the wire is closed.
	receive() ([]byte, error)
	close()
}

// A dialogue is one exchange of messages M with whoever answers.
type dialogue[M any] struct {
	station
	from    receiver
	answers chan M // closed when the wire is
	began   time.Duration
}

// converse begins a dialogue. What parse does not take is not heard: garbage is no reason for anything.
func converse[M any](s station, from receiver, parse func([]byte) (M, bool)) *dialogue[M] {
	d := &dialogue[M]{station: s, from: from, answers: make(chan M), began: s.now()}
	go func() {
		defer close(d.answers)
		for {
			b, err := from.receive()
			if err != nil {
				return
			}
			if m, ok := parse(b); ok {
				d.answers <- m
			}
		}
	}()
	return d
}

func (d *dialogue[M]) close() {
	d.from.close()
	for range d.answers { // until nobody listens any more
	}
}

// errDone ends hearing without an answer: the pause is over.
var errDone = errors.New("the pause is over")

// ask sends, again after each pause (a negative one ends it, with ErrNoServer or why nothing could be sent), until accept takes
// an answer. accept returns false for what is not for it, and an error to end.
func (d *dialogue[M]) ask(ctx context.Context, pause func(n int) time.Duration, send func() error, accept func(M) (bool, error)) error {
	unsent := error(nil)
	for n := 0; ; n++ {
		wait := pause(n)
		if wait < 0 {
			if unsent != nil {
				return unsent
			}
			return ErrNoServer
		}
		unsent = send()
		if err := d.hear(ctx, wait, accept); !errors.Is(err, errDone) {
			return err
		}
	}
}

// hear waits for an answer; nil when it was accepted, errDone after wait.
func (d *dialogue[M]) hear(ctx context.Context, wait time.Duration, accept func(M) (bool, error)) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case answer, ok := <-d.answers:
			if !ok {
				return fmt.Errorf("%s: the interface went away", d.link)
			}
			if ok, err := accept(answer); ok || err != nil {
				return err
			}
		case <-t.C:
			return errDone
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
