package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"initd/v2v/job"
	"initd/v2v/job/task"
)

// TestMain plays the tasks.
func TestMain(m *testing.M) {
	task.Main(map[string]task.Kind{
		"nothing": func(context.Context, task.Order, task.Reporter) (json.RawMessage, error) { return nil, nil },
	})
	os.Exit(m.Run())
}

const (
	jobs  = 1000
	slots = 2
)

// BenchmarkThousandSmallJobs runs jobs that do nothing, all submitted before the worker starts, and the same processes without a queue. What is
// between the two is the queue's: records that are synced, leases, limits, history.
func BenchmarkThousandSmallJobs(b *testing.B) {
	for range b.N {
		alone := processes(b)
		submitted, ran := queued(b, fmt.Sprint(b.TempDir()))
		b.ReportMetric(float64(submitted.Microseconds())/jobs/1000, "ms/submit")
		b.ReportMetric(float64(ran.Microseconds())/jobs/1000, "ms/job")
		b.ReportMetric(float64(alone.Microseconds())/jobs/1000, "ms/process")
		b.ReportMetric(float64((ran-alone).Microseconds())/jobs/1000, "ms-of-queue/job")
	}
}

// processes is how long the same attempts take without a queue.
func processes(b *testing.B) time.Duration {
	began := time.Now()
	next := make(chan int)
	var workers sync.WaitGroup
	for range slots {
		workers.Go(func() {
			for i := range next {
				t, err := task.Start(task.Order{Job: fmt.Sprint(i), Kind: "nothing", Args: []byte("{}")}, task.In(time.Minute))
				if err != nil {
					b.Error(err)
					continue
				}
				if _, failure := t.Result(); failure != nil {
					b.Error(failure)
				}
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	workers.Wait()
	return time.Since(began)
}

func queued(b *testing.B, dir string) (submitted, ran time.Duration) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	q, err := job.Connect(ctx, job.Server{Dir: filepath.Join(dir, "queue")})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	began := time.Now()
	for i := range jobs {
		_, added, err := q.Submit(ctx, job.Spec{ID: fmt.Sprintf("j%04d", i), Kind: "nothing", Args: []byte("{}"), Datastore: "one"})
		if err != nil || !added {
			b.Fatal(added, err)
		}
	}
	submitted = time.Since(began)
	began = time.Now()
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	w := &job.Worker{Queue: q, Name: "w", Slots: slots}
	go func() { done <- w.Run(working) }()
	for i := range jobs {
		for j, err := range q.Follow(ctx, fmt.Sprintf("j%04d", i)) {
			if err != nil {
				b.Fatal(err)
			}
			if j.State.Ended() && j.State != job.Done {
				b.Fatalf("%s: %s", j.ID, j.Error)
			}
		}
	}
	ran = time.Since(began)
	stop()
	<-done
	return submitted, ran
}
