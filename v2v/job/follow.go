package job

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"initd/v2v/job/task"
)

// progressSubject is where running jobs say how far they are. It is kept nowhere: the record has what counts.
const progressSubject = "v2v.progress."

func (q *Queue) announce(id string, p task.Progress) {
	if b, err := json.Marshal(p); err == nil {
		_ = q.conn.Publish(progressSubject+id, b)
	}
}

// watch asks for what becomes of keys. A watch that is asked for while servers are gone may never be answered, so that it is asked for
// again; ctx lives as long as the watch does, and so cannot be what ends one try.
func (q *Queue) watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	var watch jetstream.KeyWatcher
	err := q.again(ctx, func(try context.Context) error {
		life, give := context.WithCancel(ctx)
		stop := context.AfterFunc(try, give)
		w, err := q.kv.Watch(life, keys, opts...)
		if !stop() { // given up, even if an answer came at the same moment
			if err == nil {
				_ = w.Stop()
			}
			return context.DeadlineExceeded
		}
		if err != nil {
			give()
			return err
		}
		watch = w
		return nil
	})
	return watch, err
}

// Follow yields a job as it stands, then whenever it changes or makes progress, until it has ended or ctx is done.
func (q *Queue) Follow(ctx context.Context, id string) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		if _, err := q.Get(ctx, id); err != nil {
			yield(Job{}, err)
			return
		}
		live := make(chan *nats.Msg, 64)
		sub, err := q.conn.ChanSubscribe(progressSubject+id, live)
		if err != nil {
			yield(Job{}, fmt.Errorf("follow job %s: %w", id, err))
			return
		}
		defer func() { _ = sub.Unsubscribe() }()
		watch, err := q.watch(ctx, jobPrefix+id)
		if err != nil {
			yield(Job{}, fmt.Errorf("follow job %s: %w", id, err))
			return
		}
		defer func() { _ = watch.Stop() }()
		var j Job
		for {
			select {
			case e, ok := <-watch.Updates():
				if !ok {
					yield(j, fmt.Errorf("follow job %s: the connection has ended", id))
					return
				}
				if e == nil {
					continue
				}
				if len(e.Value()) == 0 {
					yield(j, fmt.Errorf("follow job %s: %w any more", id, ErrNotFound))
					return
				}
				next, err := parse(e)
				if err != nil {
					yield(j, err)
					return
				}
				if next.Progress == nil && next.State == Running {
					next.Progress = j.Progress
				}
				j = next
			case m := <-live:
				var p task.Progress
				if json.Unmarshal(m.Data, &p) != nil || j.State != Running {
					continue
				}
				j.Progress = &p
			case <-ctx.Done():
				yield(j, context.Cause(ctx))
				return
			}
			if !yield(j, nil) || j.State.Ended() {
				return
			}
		}
	}
}
