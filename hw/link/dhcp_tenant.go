package link

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// errReturned ends what is under way when the carrier comes back.
	errReturned = errors.New("the carrier came back")
	// errRanOut is the end of a lease.
	errRanOut = errors.New("it ran out, and no server answered")
)

// refused tells whether a server said that the lease is none, or none any more.
func refused(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrNoBinding) || errors.Is(err, ErrNotOnLink)
}

// protocol is what differs between DHCPv4 and DHCPv6 in the life of a lease L.
type protocol[L any] interface {
	who() station
	// what a lease is, in words, and when it is renewed, rebound and ends, by CLOCK_BOOTTIME.
	what(l L) string
	times(l L) (renew, rebind, ends time.Duration)

	// acquire asks until it has a lease and has configured it, or ctx ends.
	acquire(ctx context.Context, k *carrier, waiting func(string)) (L, error)
	// extend asks the lease's server, or any, until end; ErrNoServer when nobody answered.
	extend(ctx context.Context, l L, end time.Duration, own bool) (L, error)
	// verify asks whether a lease is still good where the interface is now.
	verify(ctx context.Context, l L, k *carrier) (L, error)

	// configure gives the interface the lease and takes away what only old had.
	configure(ctx context.Context, l, old L) error
	// hold keeps the address of a lease without an end if a disk is reached over the interface, and says which; otherwise
	// it does nothing and returns "".
	hold(l L) string
	remove(l L)
	carrier(ctx context.Context, changed func(bool)) error
}

// again calls once until it succeeds or ctx ends. Without carrier nothing is sent, and when it comes, something is at once. once
// tells heard what was wrong with answers, and that there are none. least is how long is waited after an error at the least.
func again[L any](ctx context.Context, s station, k *carrier, waiting func(string), least func(error) time.Duration, once func(context.Context, func(error)) (L, error)) (L, error) {
	said := ""
	var last error
	heard := func(err error) {
		last = err
		if text := err.Error(); text != said { // a server that sends rubbish sends it again
			waiting(fmt.Sprintf("a %s server on %s: %s", s.protocol, s.link, text))
			said = text
		}
	}
	for n := 0; ; n++ {
		if !k.up() {
			waiting(s.link + ": no carrier")
			last, said, n = errNoCarrier, "", 0
		}
		if !k.wait(ctx) {
			break
		}
		heard(ErrNoServer)
		attempt, cancel := k.while(ctx)
		l, err := once(attempt, heard)
		cancel()
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errNoCarrier) {
			continue
		}
		heard(err)
		if !sleep(ctx, max(s.jitter(backoff(n)), least(err))) {
			break
		}
	}
	var none L
	return none, fmt.Errorf("%s: %w", s, last)
}

// keep renews a lease until ctx ends, and asks for a new one where it is lost.
func keep[L any](ctx context.Context, p protocol[L], l L, changed func(L, error)) {
	k := followCarrier(ctx, p.carrier)
	defer k.close()
	_, seen, _ := k.now()
	for ctx.Err() == nil {
		fresh, err := next(ctx, p, l, k, &seen)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			err = p.configure(ctx, fresh, l)
			l = fresh
			changed(l, err)
		case errors.Is(err, ErrNoServer): // it is good until it ends
			changed(l, fmt.Errorf("%s: %s could not be verified: %w", p.who(), p.what(l), err))
		default:
			kept := ""
			if disk := p.hold(l); disk != "" {
				kept = fmt.Sprintf(" (the address stays: %s is reached over it)", disk)
			} else {
				p.remove(l)
			}
			changed(l, fmt.Errorf("%s: %s is lost%s: %w", p.who(), p.what(l), kept, err))
			if fresh, err = p.acquire(ctx, k, func(string) {}); ctx.Err() == nil {
				l = fresh
				changed(l, err)
			}
		}
	}
}

// next waits until something has to be done for l and does it: the lease as it is then. ErrNoServer: l is still good and
// could not be verified. Any other error: l is lost. seen counts the returns of the carrier that were looked at.
func next[L any](ctx context.Context, p protocol[L], l L, k *carrier, seen *int) (L, error) {
	work, cancel := k.bound(ctx, errReturned, func(_ bool, returns int) bool { return returns > *seen })
	fresh, err := renew(work, p, l)
	back := context.Cause(work)
	cancel()
	if err == nil || !errors.Is(back, errReturned) {
		return fresh, err
	}
	_, *seen, _ = k.now()
	fresh, err = p.verify(ctx, l, k)
	_, _, ends := p.times(l)
	switch {
	case err == nil:
		return fresh, nil
	case p.who().now() >= ends:
		return fresh, errRanOut
	case refused(err) || errors.Is(err, ErrNoServer):
		return fresh, err
	}
	return fresh, fmt.Errorf("%w (%w)", ErrNoServer, err)
}

// renew waits until the lease is to be renewed and asks the server, later any server, until the lease's end.
func renew[L any](ctx context.Context, p protocol[L], l L) (L, error) {
	first, second, ends := p.times(l)
	if wait := first - p.who().now(); wait > 0 && !sleep(ctx, wait) {
		return l, context.Cause(ctx)
	}
	fresh, err := p.extend(ctx, l, second, true)
	if errors.Is(err, ErrNoServer) {
		p.hold(l) // before the kernel ends it with the lease
		fresh, err = p.extend(ctx, l, ends, false)
	}
	if errors.Is(err, ErrNoServer) {
		return fresh, errRanOut
	}
	return fresh, err
}

// extend calls once until end, until it has a lease or is refused: ErrNoServer when it is over. pause is the time of one attempt, of
// what is left.
func extend[L any](ctx context.Context, s station, end time.Duration, pause func(left time.Duration) time.Duration, once func(wait time.Duration) (L, error)) (L, error) {
	var none L
	for {
		left := end - s.now()
		if left <= 0 {
			return none, ErrNoServer
		}
		wait := min(pause(left), left)
		next := s.now() + wait
		fresh, err := once(wait)
		if err == nil || refused(err) {
			return fresh, err
		}
		// The interface may be gone, or unable to send: that ends earlier than the pause.
		if !sleep(ctx, next-s.now()) {
			return none, context.Cause(ctx)
		}
	}
}
