package job

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Queue is a connection to the jobs. Safe for several goroutines.
type Queue struct {
	conn *nats.Conn
	kv   jetstream.KeyValue
	// leave ends this process's turn as the queue's server.
	leave func()
}

// keys of the bucket
const (
	bucket      = "v2v"
	jobPrefix   = "job."
	storePrefix = "store."
)

// patience is how long one operation on the bucket is tried over, while servers come and go.
const patience = time.Minute

// Submit adds a job. added is false if it was there already, with the same content: then it is returned as it stands.
func (q *Queue) Submit(ctx context.Context, s Spec) (j Job, added bool, err error) {
	if s.ID == "" {
		s.ID = newID()
	}
	if err := checkSpec(s); err != nil {
		return Job{}, false, fmt.Errorf("submit: %w", err)
	}
	var tidy bytes.Buffer
	if err := json.Compact(&tidy, s.Args); err != nil {
		return Job{}, false, fmt.Errorf("submit: %w", err)
	}
	s.Args = tidy.Bytes()
	j = Job{Spec: s, State: Queued, Submitted: now()}
	stored, err := q.put(ctx, j)
	if err == nil {
		return stored, true, nil
	}
	if !errors.Is(err, errChanged) {
		return Job{}, false, fmt.Errorf("submit %s: %w", s.ID, err)
	}
	there, err := q.Get(ctx, s.ID)
	if err != nil {
		return Job{}, false, fmt.Errorf("submit %s: %w", s.ID, err)
	}
	if there.Kind != s.Kind || there.Datastore != s.Datastore || !bytes.Equal(there.Args, s.Args) {
		return there, false, fmt.Errorf("submit %s: %w: a %s of %s", s.ID, ErrConflict, there.Kind, there.Submitted.Format(time.RFC3339))
	}
	return there, false, nil
}

// newID sorts by time and is never given twice.
func newID() string {
	return now().Format("20060102-150405-") + strings.ToLower(rand.Text()[:8])
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Get reads one job; ErrNotFound.
func (q *Queue) Get(ctx context.Context, id string) (Job, error) {
	var found Job
	err := q.again(ctx, func(ctx context.Context) error {
		e, err := q.kv.Get(ctx, jobPrefix+id)
		if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
			return fmt.Errorf("job %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		found, err = parse(e)
		return err
	})
	return found, err
}

func parse(e jetstream.KeyValueEntry) (Job, error) {
	var j Job
	if err := json.Unmarshal(e.Value(), &j); err != nil {
		return Job{}, fmt.Errorf("the record of job %s cannot be read: %w", strings.TrimPrefix(e.Key(), jobPrefix), err)
	}
	j.Revision = e.Revision()
	return j, nil
}

// List reads all jobs, oldest first.
func (q *Queue) List(ctx context.Context) ([]Job, error) {
	var all []Job
	err := q.again(ctx, func(ctx context.Context) error {
		all = nil
		w, err := q.kv.Watch(ctx, jobPrefix+"*", jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer w.Stop()
		for {
			select {
			case e, ok := <-w.Updates():
				if !ok {
					return nats.ErrDisconnected
				}
				if e == nil {
					return nil
				}
				j, err := parse(e)
				if err != nil {
					return err
				}
				all = append(all, j)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	slices.SortFunc(all, byAge)
	return all, err
}

func byAge(a, b Job) int {
	if c := a.Submitted.Compare(b.Submitted); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// Cancel ends a job: one that waits at once, one that runs as soon as its worker hears it.
func (q *Queue) Cancel(ctx context.Context, id string) (Job, error) {
	return q.change(ctx, id, func(j *Job) error {
		switch {
		case j.State == Cancelled:
		case j.State.Ended():
			return fmt.Errorf("cancel %s: %w: it is %s", id, ErrState, j.State)
		case j.State == Queued && j.Tries == 0 && len(j.History) == 0: // nothing was begun, so nothing is left to clean
			j.State, j.Finished = Cancelled, now()
		default:
			j.Cancel = true
			j.After = time.Time{}
		}
		return nil
	})
}

// Retry puts a job that failed or was cancelled into the queue again. One that waits to be tried again is tried now.
func (q *Queue) Retry(ctx context.Context, id string) (Job, error) {
	return q.change(ctx, id, func(j *Job) error {
		switch {
		case j.State == Queued && !j.After.IsZero():
			j.After = time.Time{}
		case j.State == Failed || j.State == Cancelled:
			j.State, j.Cancel, j.Tries = Queued, false, 0
			j.After, j.Finished, j.Error, j.Code, j.Result, j.Progress = time.Time{}, time.Time{}, "", "", nil, nil
		default:
			return fmt.Errorf("retry %s: %w: it is %s", id, ErrState, j.State)
		}
		return nil
	})
}

// change reads, edits and writes a record until nobody came between.
func (q *Queue) change(ctx context.Context, id string, edit func(*Job) error) (Job, error) {
	for {
		j, err := q.Get(ctx, id)
		if err != nil {
			return Job{}, err
		}
		before := j
		if err := edit(&j); err != nil {
			return before, err
		}
		j, err = q.put(ctx, j)
		if !errors.Is(err, errChanged) {
			return j, err
		}
	}
}

// put writes a record if it is still at j.Revision (0: if there is none); errChanged if it is not. The answer of a server that died may have
// been lost: then what is there now tells.
func (q *Queue) put(ctx context.Context, j Job) (Job, error) {
	b, err := json.Marshal(j)
	if err != nil {
		return Job{}, err
	}
	if len(b) > maxRecord {
		return Job{}, fmt.Errorf("the record of job %s has %d bytes; at most %d", j.ID, len(b), maxRecord)
	}
	j.Revision, err = q.swap(ctx, jobPrefix+j.ID, b, j.Revision)
	return j, err
}

// swap is put for any key.
func (q *Queue) swap(ctx context.Context, key string, b []byte, revision uint64) (uint64, error) {
	unsure := false
	var stored uint64
	err := q.again(ctx, func(ctx context.Context) error {
		var err error
		if revision == 0 {
			stored, err = q.kv.Create(ctx, key, b)
		} else {
			stored, err = q.kv.Update(ctx, key, b, revision)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			unsure = true
			return err
		}
		if unsure {
			if e, err := q.kv.Get(ctx, key); err == nil && bytes.Equal(e.Value(), b) {
				stored = e.Revision()
				return nil
			}
		}
		return errChanged
	})
	return stored, err
}

// again repeats what failed because a server was not there or not ready, as long as patience lasts.
func (q *Queue) again(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	wait := 50 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := do(attempt)
		cancel()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-ctx.Done():
			return fmt.Errorf("the queue at %s does not answer: %w", q.where(), err)
		}
	}
}

// passing says whether an error is of the kind that ends when servers have found each other again.
func passing(err error) bool {
	for _, e := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrConnectionReconnecting,
		nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, nats.ErrNoServers} {
		if errors.Is(err, e) {
			return true
		}
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.Code == 503 // no leader, no quorum yet
	}
	return false
}

func (q *Queue) where() string {
	if url := q.conn.ConnectedUrlRedacted(); url != "" {
		return url
	}
	return strings.Join(q.conn.Servers(), ", ")
}

// Close ends the connection, and the server where this process is it.
func (q *Queue) Close() {
	q.conn.Close()
	q.leave()
}
