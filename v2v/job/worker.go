package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Worker runs jobs of a queue, each in a process of its own.
type Worker struct {
	Queue *Queue
	// Name is unique among the workers of the queue.
	Name string
	// Slots is how many jobs run at the same time.
	Slots int
	// Lease is how long a job stays a worker's without a word from it; 0 is 15 s. All workers of a queue must agree.
	Lease time.Duration
	// Limit is how many jobs run at the same time on one datastore, over all workers, unless SetLimit said otherwise; 0 is 4.
	Limit int
	// Keep is how long jobs that ended are kept; 0 is 30 days.
	Keep time.Duration
	// Retry is the pause before a failed attempt is repeated, doubled each time; 0 is 5 s.
	Retry time.Duration
	// Log hears what happens, one line a call; nil is nobody.
	Log func(string)
}

func (w *Worker) withDefaults() Worker {
	c := *w
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Lease, 15*time.Second)
	set(&c.Keep, 30*24*time.Hour)
	set(&c.Retry, 5*time.Second)
	c.Slots, c.Limit = max(c.Slots, 1), max(c.Limit, 0)
	if c.Limit == 0 {
		c.Limit = 4
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	return c
}

// run is a Worker at work. Only its loop touches the maps.
type run struct {
	Worker
	host   string
	jobs   map[string]seen // all of the queue
	limits map[string]int
	mine   map[string]*attempt
	ended  chan *attempt
}

// seen is a record and when this worker saw it change, on its own clock: the clocks of machines are never compared.
type seen struct {
	Job
	at time.Time
}

// Run works until ctx is done; jobs that run then are given back.
func (w *Worker) Run(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("run a worker: %w", err)
	}
	r := &run{Worker: w.withDefaults(), host: host, jobs: map[string]seen{}, limits: map[string]int{}, mine: map[string]*attempt{}}
	r.ended = make(chan *attempt, r.Slots) // has room for all: nobody listens at the end
	var attempts sync.WaitGroup
	defer attempts.Wait()
	for ctx.Err() == nil {
		if err := r.follow(ctx, &attempts); err != nil && ctx.Err() == nil {
			r.Log(err.Error())
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
	return ctx.Err()
}

// follow watches the queue and acts on each change, until the watch ends.
func (r *run) follow(ctx context.Context, attempts *sync.WaitGroup) error {
	watch, err := r.Queue.watch(ctx, jetstream.AllKeys)
	if err != nil {
		return fmt.Errorf("watch the queue: %w", err)
	}
	defer watch.Stop()
	complete := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-watch.Updates():
			if !ok {
				return errors.New("the watch of the queue has ended; it begins again")
			}
			if e == nil {
				complete = true
			} else {
				r.see(e)
			}
			if more := len(watch.Updates()); !complete || more > 0 { // decide on the newest state, not on each step towards it
				continue
			}
		case a := <-r.ended:
			delete(r.mine, a.job.ID)
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !complete {
			continue
		}
		next, err := r.act(ctx, attempts)
		if err != nil {
			return err
		}
		timer.Reset(next)
	}
}

// see takes a change into the picture.
func (r *run) see(e jetstream.KeyValueEntry) {
	key := e.Key()
	if name, ok := limitOf(key); ok {
		r.limits[name] = parseLimit(e)
		return
	}
	id, ok := idOf(key)
	if !ok {
		return
	}
	if e.Operation() != jetstream.KeyValuePut {
		delete(r.jobs, id)
		return
	}
	j, err := parse(e)
	if err != nil {
		r.Log(err.Error())
		return
	}
	if old, ok := r.jobs[id]; ok && old.Revision >= j.Revision {
		return
	}
	r.jobs[id] = seen{Job: j, at: time.Now()}
	if a := r.mine[id]; a != nil {
		a.changed(j)
	}
}

// act starts what may be started, and says when to look again without a change.
func (r *run) act(ctx context.Context, attempts *sync.WaitGroup) (time.Duration, error) {
	r.forget(ctx)
	full := map[string]bool{} // datastores where more runs than this worker has heard of yet
	for len(r.mine) < r.Slots {
		next, ok := r.choose(full)
		if !ok {
			break
		}
		a, err := r.claim(ctx, next)
		switch {
		case errors.Is(err, errFull):
			full[next.Datastore] = true
			continue
		case errors.Is(err, errChanged): // another worker was quicker
			continue
		case err != nil:
			return 0, fmt.Errorf("claim job %s: %w", next.ID, err)
		}
		r.mine[next.ID] = a
		attempts.Go(func() {
			a.work(ctx)
			r.ended <- a
		})
	}
	return r.soonest(), nil
}

// choose picks a job that may run: of the datastore with the fewest running jobs the oldest, so that many jobs for one
// store do not keep others waiting.
func (r *run) choose(full map[string]bool) (seen, bool) {
	running := map[string]int{}
	var ready []seen
	for _, s := range r.jobs {
		if s.State == Running && !r.lapsed(s) {
			running[s.Datastore]++
		}
		if r.ready(s) {
			ready = append(ready, s)
		}
	}
	ready = slices.DeleteFunc(ready, func(s seen) bool {
		return s.Datastore != "" && (full[s.Datastore] || running[s.Datastore] >= r.limit(s.Datastore))
	})
	if len(ready) == 0 {
		return seen{}, false
	}
	return slices.MinFunc(ready, func(a, b seen) int {
		if c := running[a.Datastore] - running[b.Datastore]; c != 0 {
			return c
		}
		return byAge(a.Job, b.Job)
	}), true
}

// ready says whether a job may be claimed, as far as this worker knows.
func (r *run) ready(s seen) bool {
	if r.mine[s.ID] != nil {
		return false
	}
	return s.State == Queued && !s.After.After(time.Now()) || r.lapsed(s)
}

// lapsed says whether a job's worker was silent for the time of a lease.
func (r *run) lapsed(s seen) bool {
	return s.State == Running && time.Since(s.at) >= r.Lease
}

// soonest is how long it is until something may be ready without a change of its record.
func (r *run) soonest() time.Duration {
	wait := time.Hour
	if len(r.mine) >= r.Slots {
		return wait // the end of an attempt comes first
	}
	for _, s := range r.jobs {
		switch {
		case r.mine[s.ID] != nil:
		case s.State == Running:
			wait = min(wait, time.Until(s.at.Add(r.Lease)))
		case s.State == Queued && !s.After.IsZero():
			wait = min(wait, time.Until(s.After))
		}
	}
	return max(wait, 10*time.Millisecond)
}

// forget removes jobs that ended long ago.
func (r *run) forget(ctx context.Context) {
	for id, s := range r.jobs {
		if s.State.Ended() && time.Since(s.Finished) > r.Keep {
			if err := r.Queue.kv.Purge(ctx, jobPrefix+id, jetstream.LastRevision(s.Revision)); err == nil {
				delete(r.jobs, id)
			}
		}
	}
}
