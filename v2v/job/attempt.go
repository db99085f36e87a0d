package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"initd/v2v/job/task"
)

// attempt is one lease of a job, from the claim to the result.
type attempt struct {
	run   *run
	job   Job           // as it was last written by this attempt, or seen with its lease intact
	asked task.Deadline // when the lease was last asked for
	news  chan Job      // the newest record that the loop saw

	lapsed bool   // it ended with its lease
	handed uint64 // the number of what is in job.Handed
}

// changed hands on what the loop saw; only the newest matters.
func (a *attempt) changed(j Job) {
	select {
	case <-a.news:
	default:
	}
	a.news <- j
}

// deadline is until when the task may work without a new answer: two thirds of a lease. The rest lies between the last moment of this
// process and the first of another one.
func (a *attempt) deadline() task.Deadline {
	return a.asked + task.Deadline(a.run.Lease*2/3)
}

// work runs the task, keeps the lease, and writes down what came of it.
func (a *attempt) work(ctx context.Context) {
	lasting := context.WithoutCancel(ctx) // what is known at the end is written also when the worker stops
	token := a.job.Lease.Token
	order := task.Order{Job: a.job.ID, Kind: a.job.Kind, Args: a.job.Args, Token: token, Again: len(a.job.History) > 1,
		Started: a.job.Started, Clean: a.job.Cancel, Handed: a.job.Handed}
	t, err := task.Start(order, a.deadline())
	if err != nil {
		a.finish(lasting, order, nil, &task.Failure{Text: err.Error()})
		return
	}
	if a.watch(ctx, t) {
		result, failure := t.Result()
		// The kernel ended it because the queue was silent: no fault of the job, which anybody may take over.
		a.lapsed = failure != nil && failure.Died && a.deadline().Left() <= 0
		a.finish(lasting, order, result, failure)
		return
	}
	t.Kill()
	<-t.Done()
	a.run.Log(fmt.Sprintf("job %s: its lease went to another worker; this one has stopped", a.job.ID))
}

// watch keeps the lease until the task's process has ended; false if the lease is another's.
func (a *attempt) watch(ctx context.Context, t *task.Task) bool {
	renew := time.NewTicker(a.run.Lease / 3)
	defer renew.Stop()
	stop := ctx.Done()
	for {
		select {
		case <-t.Done():
			return true
		case p := <-t.Progress:
			a.job.Progress = &p
			a.run.Queue.announce(a.job.ID, p)
		case h := <-t.Handed:
			a.job.Handed, a.handed = h.What, h.Number
			if stop != nil && !a.renew(ctx, t) {
				return false
			}
		case j := <-a.news:
			if j.Revision > a.job.Revision && !a.adopt(j, t) {
				return false
			}
		case <-renew.C:
			// A worker that stops lets its lease run out, and the kernel ends what does not end by itself.
			if stop != nil && !a.renew(ctx, t) {
				return false
			}
		case <-stop:
			stop = nil
			t.Suspend()
		}
	}
}

// renew asks for a lease from now on; false if it is another's. Without an answer things stay as they are until the next time.
func (a *attempt) renew(ctx context.Context, t *task.Task) bool {
	ctx, cancel := context.WithTimeout(ctx, max(a.deadline().Left(), 0))
	defer cancel()
	go func() { // what has ended needs no lease
		select {
		case <-t.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		asked := task.In(0)
		wish := a.job
		lease := *a.job.Lease
		lease.Renewal++
		wish.Lease = &lease
		stored, err := a.run.Queue.put(ctx, wish)
		if err == nil {
			a.job, a.asked = stored, asked
			t.Prolong(a.deadline())
			t.Took(a.handed)
			return true
		}
		if !errors.Is(err, errChanged) {
			return true
		}
		j, err := a.run.Queue.Get(ctx, a.job.ID)
		if errors.Is(err, ErrNotFound) {
			return false
		}
		if err != nil {
			return true
		}
		if !a.adopt(j, t) {
			return false
		}
	}
}

// adopt goes on from a record that somebody else wrote, if the lease in it is still this one.
func (a *attempt) adopt(j Job, t *task.Task) bool {
	if !a.holds(j) {
		return false
	}
	if j.Cancel && !a.job.Cancel && t != nil {
		t.Cancel()
	}
	j.Progress, j.Handed = a.job.Progress, a.job.Handed
	a.job = j
	return true
}

func (a *attempt) holds(j Job) bool {
	return j.State == Running && j.Lease != nil && j.Lease.Worker == a.job.Lease.Worker && j.Lease.Token == a.job.Lease.Token
}

// finish writes down what came of the task, unless the job is another's by now.
func (a *attempt) finish(ctx context.Context, o task.Order, result json.RawMessage, f *task.Failure) {
	for {
		j := a.job
		a.conclude(&j, o, result, f)
		stored, err := a.run.Queue.put(ctx, j)
		if err == nil {
			a.run.Log(logLine(stored))
			return
		}
		if !errors.Is(err, errChanged) {
			a.run.Log(fmt.Sprintf("job %s: its end could not be written down: %v", a.job.ID, err))
			return
		}
		now, err := a.run.Queue.Get(ctx, a.job.ID)
		if err != nil || !a.adopt(now, nil) {
			a.run.Log(fmt.Sprintf("job %s: it ended here after its lease had gone to another worker: %v", a.job.ID, err))
			return
		}
	}
}

// conclude is what a job becomes. It decides, and does nothing.
func (a *attempt) conclude(j *Job, o task.Order, result json.RawMessage, f *task.Failure) {
	at := now()
	j.Lease, j.Result = nil, nil
	finish := func(s State, outcome, why string) {
		j.State, j.Finished, j.Error = s, at, why
		j.end(outcome, why, at)
	}
	switch {
	case f == nil && o.Clean:
		finish(Cancelled, "cancelled", "")
	case f == nil:
		j.Result, j.Handed = result, nil
		finish(Done, "done", "")
	case f.Cancelled:
		finish(Cancelled, "cancelled", "")
	case a.lapsed:
		j.State = Queued
		j.end("lost", fmt.Sprintf("the queue did not answer within %v", a.run.Lease*2/3), at)
	case f.Suspended:
		j.State = Queued
		j.end("suspended", "", at)
	default:
		j.Tries++
		j.Error, j.Code = f.Text, f.Code
		outcome := "failed"
		if f.Died {
			outcome = "died"
		}
		switch {
		case j.Cancel && j.Tries >= maxTries:
			finish(Cancelled, outcome, f.Text)
		case f.Final && !j.Cancel, j.Tries >= maxTries:
			finish(Failed, outcome, f.Text)
		default:
			j.State, j.After = Queued, at.Add(a.run.Retry<<(j.Tries-1))
			j.end(outcome, f.Text, at)
		}
	}
}

// logLine is what a worker's log says about the end of an attempt.
func logLine(j Job) string {
	s := fmt.Sprintf("job %s: %s", j.ID, j.State)
	if j.State == Queued && !j.After.IsZero() {
		s += fmt.Sprintf(", tried again at %s", j.After.Format(time.RFC3339))
	}
	why := j.Error
	if j.State == Queued && why == "" {
		why = j.History[len(j.History)-1].Error
	}
	if why != "" {
		s += ": " + why
	}
	return s
}
