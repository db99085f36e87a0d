package vm

import (
	"context"
	"errors"
	"sync"
)

// errEnded says that nothing more will come: the machine has ended.
var errEnded = errors.New("the machine has ended")

// feed is a list that only grows, and that readers can wait on. It is safe for concurrent use; make it with newFeed.
type feed[T any] struct {
	mu      sync.Mutex
	items   []T
	ended   bool
	changed chan struct{} // closed at the next change, and replaced
}

func newFeed[T any]() *feed[T] { return &feed[T]{changed: make(chan struct{})} }

func (f *feed[T]) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed[T]) add(item T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, item)
	f.signal()
}

func (f *feed[T]) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.signal()
}

func (f *feed[T]) all() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[:len(f.items):len(f.items)]
}

// wait returns the first item from index from on that matches, with its index. It returns errEnded when the feed ended
// without one, and the context's error.
func (f *feed[T]) wait(ctx context.Context, from int, match func(T) bool) (T, int, error) {
	var none T
	for i := from; ; {
		f.mu.Lock()
		items, ended, changed := f.items, f.ended, f.changed
		f.mu.Unlock()
		for ; i < len(items); i++ {
			if match(items[i]) {
				return items[i], i, nil
			}
		}
		if ended {
			return none, i, errEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return none, i, ctx.Err()
		}
	}
}
