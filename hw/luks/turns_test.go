//go:build !guest

package luks

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue enters names into t, in order, and notes who is let in; each stays until its channel is closed.
type queue struct {
	t     *testing.T
	turns *turns
	stay  map[string]chan struct{}

	mu sync.Mutex
	in []string // guarded by mu
}

func (q *queue) enter(name string, work uint64) {
	stay := make(chan struct{})
	q.stay[name] = stay
	go func() {
		leave, err := q.turns.enter(q.t.Context(), work)
		if err != nil {
			q.t.Error(err)
			return
		}
		q.mu.Lock()
		q.in = append(q.in, name)
		q.mu.Unlock()
		<-stay
		leave()
	}()
	synctest.Wait()
}

func (q *queue) leaves(name string) { close(q.stay[name]); synctest.Wait() }

func (q *queue) want(names string) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if got := strings.Join(q.in, " "); got != names {
		q.t.Errorf("let in: %s; want %s", got, names)
	}
}

func TestTheLeastWorkHasTheFirstTurnOnceAllHaveCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, turns: newTurns(1, 4), stay: map[string]chan struct{}{}}
		q.enter("endless", 1<<62)
		q.enter("large", 100)
		q.enter("small", 10)
		q.want("")
		q.turns.pass() // a header that was refused
		synctest.Wait()
		q.want("small")
		q.leaves("small")
		q.leaves("large")
		q.want("small large endless")
		q.leaves("endless")
	})
}

func TestNobodyWaitsLongForAHeaderThatIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, turns: newTurns(1, 2), stay: map[string]chan struct{}{}}
		q.enter("one", 10)
		q.want("")
		time.Sleep(patience)
		synctest.Wait()
		q.want("one")
		q.leaves("one")
	})
}

func TestOneThatStaysLongKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, turns: newTurns(1, 0), stay: map[string]chan struct{}{}}
		q.enter("endless", 0)
		q.enter("one", 1)
		q.enter("two", 2)
		q.want("endless")
		time.Sleep(patience)
		synctest.Wait()
		q.want("endless one")
		q.leaves("endless") // its place was given away already
		q.want("endless one")
		q.leaves("one")
		q.want("endless one two")
		q.leaves("two")
	})
}

func TestWorkThatTakesLongIsGivenTimeButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, turns: newTurns(1, 0), stay: map[string]chan struct{}{}}
		q.enter("endless", 1<<63)
		q.enter("argon", 4*65536)
		time.Sleep(longest - time.Millisecond)
		q.want("endless")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		q.want("endless argon")
		q.enter("next", 4*65536)
		time.Sleep(4 * 65536 * 50 * time.Microsecond)
		q.want("endless argon")
		q.leaves("argon")
		q.want("endless argon next")
		q.leaves("next")
		q.leaves("endless")
	})
}

func TestAWaitForATurnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 0)
		leave, err := turns.enter(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var failed error
		go func() { _, failed = turns.enter(ctx, 0) }()
		synctest.Wait()
		cancel(errors.New("too late"))
		synctest.Wait()
		if e, ok := errors.AsType[*UnfinishedError](failed); !ok || e.Doing != "" || e.Err.Error() != "too late" {
			t.Errorf("got %v", failed)
		}
		leave()
		if leave, err = turns.enter(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}
