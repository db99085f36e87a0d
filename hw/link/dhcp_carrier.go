package link

import (
	"context"
	"errors"
	"sync"
)

// errNoCarrier ends what is under way when the carrier is lost.
var errNoCarrier = errors.New("no carrier")

// carrier follows the carrier of one interface.
type carrier struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	present bool          // guarded by mu
	returns int           // guarded by mu; how often it came back
	changed chan struct{} // guarded by mu; closed at the next change
}

// followCarrier knows the state of the carrier when it returns. watch calls changed with it and after every change.
func followCarrier(ctx context.Context, watch func(ctx context.Context, changed func(bool)) error) *carrier {
	ctx, cancel := context.WithCancel(ctx)
	k := &carrier{cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	known := make(chan struct{})
	first := sync.OnceFunc(func() { close(known) })
	go func() {
		defer close(k.ended)
		defer first()
		before := false
		err := watch(ctx, func(up bool) {
			k.set(up, before)
			before = before || up
			first()
		})
		if err != nil {
			k.set(true, false) // unknown: messages tell
		}
	}()
	<-known
	return k
}

func (k *carrier) close() { k.cancel(); <-k.ended }

func (k *carrier) set(up, again bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if up == k.present {
		return
	}
	if up && again {
		k.returns++
	}
	k.present = up
	close(k.changed)
	k.changed = make(chan struct{})
}

// now returns the state and a channel that is closed at the next change.
func (k *carrier) now() (present bool, returns int, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.present, k.returns, k.changed
}

func (k *carrier) up() bool { present, _, _ := k.now(); return present }

// wait waits for the carrier; false when ctx ended.
func (k *carrier) wait(ctx context.Context) bool {
	return k.until(ctx, func(present bool, _ int) bool { return present })
}

// until waits for a state; false when ctx ended.
func (k *carrier) until(ctx context.Context, is func(present bool, returns int) bool) bool {
	for ctx.Err() == nil {
		present, returns, changed := k.now()
		if is(present, returns) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false
}

// while is a context that ends with errNoCarrier when the carrier is lost.
func (k *carrier) while(ctx context.Context) (context.Context, context.CancelFunc) {
	_, before, _ := k.now()
	return k.bound(ctx, errNoCarrier, func(present bool, returns int) bool { return !present || returns > before })
}

// bound is a context that ends with cause in a state.
func (k *carrier) bound(ctx context.Context, cause error, is func(present bool, returns int) bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if k.until(ctx, is) {
			cancel(cause)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}
