package luks

import (
	"context"
	"runtime"
)

// width is how many mappings are made at a time. That is mostly waiting: for grace periods of the kernel, and for the modules
// of a cipher, which a header may name at will.
const width = 8

// mappers are threads that possess the session keyring of a batch and make mappings. Closing work ends them.
type mappers struct {
	work, done chan mapping // they hold as many as there are volumes: nobody ever waits to put one in
}

// mapping is one volume on its way through a mapper.
type mapping struct {
	volume int
	params Params
	err    error
}

// startMappers must be called by the thread whose session keyring ring is, while it is empty.
func startMappers(ctx context.Context, ring, volumes int, make1 func(ctx context.Context, ring int, m mapping) error) (mappers, error) {
	m := mappers{work: make(chan mapping, volumes), done: make(chan mapping, volumes)}
	return m, shareSession(ring, func() error {
		joined := make(chan error)
		var failed error
		n := min(volumes, width)
		for range n {
			go func() {
				runtime.LockOSThread() // and never unlocked: the thread's keyring ends with it
				err := linkSession(ring)
				joined <- err
				if err != nil {
					return
				}
				for w := range m.work {
					w.err = make1(ctx, ring, w)
					m.done <- w
				}
			}()
		}
		for range n {
			if err := <-joined; err != nil {
				failed = err
			}
		}
		if failed != nil {
			close(m.work)
		}
		return failed
	})
}
