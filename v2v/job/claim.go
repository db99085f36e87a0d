package job

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"initd/v2v/job/task"
)

// errFull says that the datastore has as many jobs as it may.
var errFull = errors.New("the datastore has as many jobs as it may")

// claim takes the lease of a job from the revision that was seen: if anything happened to it since, its worker's renewal included, this fails.
func (r *run) claim(ctx context.Context, s seen) (*attempt, error) {
	j := s.Job
	token := j.Revision
	if err := r.enter(ctx, j.Datastore, holder{Job: j.ID, Token: token}); err != nil {
		return nil, err
	}
	asked := task.In(0) // the lease counts from before it was asked for
	from := ""
	if j.State == Running {
		from = j.Lease.Worker
		j.end("lost", fmt.Sprintf("no word from %s for %v", from, r.Lease), now())
	}
	j.State, j.After, j.Error, j.Code = Running, time.Time{}, "", ""
	if j.Started.IsZero() {
		j.Started = now()
	}
	j.Lease = &Lease{Worker: r.Name, Host: r.host, Token: token}
	j.begin(Attempt{Worker: r.Name, Host: r.host, Token: token, Started: now()})
	stored, err := r.Queue.put(ctx, j)
	if err != nil {
		// The datastore's record stays: its line is the winner's, who holds the same token, or is found to be over by the next who looks.
		if errors.Is(err, errChanged) {
			// The watch will tell what happened; until then this record is not looked at again.
			delete(r.jobs, j.ID)
		}
		return nil, err
	}
	if from != "" {
		r.Log(fmt.Sprintf("job %s: taken over from %s, silent for %v", j.ID, from, r.Lease))
	}
	r.jobs[j.ID] = seen{Job: stored, at: time.Now()}
	return &attempt{run: r, job: stored, asked: asked, news: make(chan Job, 1)}, nil
}

// holder is a job that runs on a datastore.
type holder struct {
	Job   string `json:"job"`
	Token uint64 `json:"token"`
}

// enter counts a job in on its datastore, or says errFull. The record of a datastore is changed from one revision to the next, so the
// limit holds however many workers ask at once. Nobody counts out: whoever enters next drops those that are over, a dead worker's too.
func (r *run) enter(ctx context.Context, store string, h holder) error {
	return r.changeHolders(ctx, store, func(held []holder) ([]holder, error) {
		held = slices.DeleteFunc(held, func(o holder) bool { return o.Job == h.Job || r.gone(o) })
		if len(held) >= r.limit(store) {
			// What is known of the others may be old: look at them as they are now.
			var err error
			held, err = r.reallyHeld(ctx, held)
			if err != nil {
				return nil, err
			}
			if len(held) >= r.limit(store) {
				return nil, errFull
			}
		}
		return append(held, h), nil
	})
}

func (r *run) changeHolders(ctx context.Context, store string, edit func([]holder) ([]holder, error)) error {
	if store == "" {
		return nil // limited by nothing but slots
	}
	key := storePrefix + encode(store)
	for {
		var held []holder
		var revision uint64
		err := r.Queue.again(ctx, func(ctx context.Context) error {
			held, revision = nil, 0
			e, err := r.Queue.kv.Get(ctx, key)
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			revision = e.Revision()
			return json.Unmarshal(e.Value(), &held)
		})
		if err != nil {
			return err
		}
		edited, err := edit(held)
		if err != nil {
			return err
		}
		b, err := json.Marshal(edited)
		if err != nil {
			return err
		}
		if _, err = r.Queue.swap(ctx, key, b, revision); !errors.Is(err, errChanged) {
			return err
		}
	}
}

// gone says whether a holder is certainly over. A record that was not seen beyond the holder's token says nothing about it.
func (r *run) gone(h holder) bool {
	s, ok := r.jobs[h.Job]
	return ok && over(s.Job, h)
}

func over(j Job, h holder) bool {
	return j.Revision > h.Token && !(j.State == Running && j.Lease != nil && j.Lease.Token == h.Token)
}

// reallyHeld asks the bucket about each holder.
func (r *run) reallyHeld(ctx context.Context, held []holder) ([]holder, error) {
	var still []holder
	for _, h := range held {
		j, err := r.Queue.Get(ctx, h.Job)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !over(j, h) {
			still = append(still, h)
		}
	}
	return still, nil
}

func (r *run) limit(store string) int {
	if n, ok := r.limits[store]; ok && n > 0 {
		return n
	}
	return r.Limit
}

// keys: names of datastores are paths and portals, which a key cannot hold.
var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func encode(name string) string { return encoding.EncodeToString([]byte(name)) }

const limitPrefix = "limit."

func limitOf(key string) (string, bool) {
	text, ok := strings.CutPrefix(key, limitPrefix)
	if !ok {
		return "", false
	}
	name, err := encoding.DecodeString(text)
	return string(name), err == nil
}

func idOf(key string) (string, bool) { return strings.CutPrefix(key, jobPrefix) }

func parseLimit(e jetstream.KeyValueEntry) int {
	n := 0
	if e.Operation() == jetstream.KeyValuePut {
		_ = json.Unmarshal(e.Value(), &n) // what is no number is no limit of its own
	}
	return n
}

// SetLimit says how many jobs may run at the same time on a datastore; 0 is what the workers were told.
func (q *Queue) SetLimit(ctx context.Context, store string, n int) error {
	if store == "" || n < 0 || n > 10_000 {
		return fmt.Errorf("limit %q to %d jobs: not a datastore with a number", store, n)
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return q.again(ctx, func(ctx context.Context) error {
		_, err := q.kv.Put(ctx, limitPrefix+encode(store), b)
		return err
	})
}
