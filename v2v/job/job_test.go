package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/v2v/job"
)

// worker runs one in this process until the test ends or stop is called.
func worker(t testing.TB, q *job.Queue, w job.Worker) (stop func()) {
	t.Helper()
	w.Queue = q
	if w.Retry == 0 {
		w.Retry = 20 * time.Millisecond
	}
	w.Log = func(line string) { t.Log(w.Name + ": " + line) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func TestTheSameSubmissionIsTheSameJob(t *testing.T) {
	q, _ := queue(t)
	s := job.Spec{ID: "vm-17", Kind: "append", Args: json.RawMessage(`{"Path": "/x"}`)}
	first, added, err := q.Submit(t.Context(), s)
	if err != nil || !added {
		t.Fatal(added, err)
	}
	again, added, err := q.Submit(t.Context(), s)
	if err != nil || added || again.Revision != first.Revision {
		t.Errorf("again: added %v, revision %d after %d, %v", added, again.Revision, first.Revision, err)
	}
	s.Args = json.RawMessage(`{"Path":"/y"}`)
	if _, _, err := q.Submit(t.Context(), s); !errors.Is(err, job.ErrConflict) {
		t.Errorf("another content under the same id: %v", err)
	}
	for name, bad := range map[string]job.Spec{
		"a dot in the id": {ID: "a.b", Kind: "k", Args: json.RawMessage(`{}`)},
		"no kind":         {ID: "a", Args: json.RawMessage(`{}`)},
		"no JSON":         {ID: "a", Kind: "k", Args: json.RawMessage(`{`)},
	} {
		if _, _, err := q.Submit(t.Context(), bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := q.Get(t.Context(), "nobody"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("an unknown job: %v", err)
	}
}

func TestAJobRunsAndItsResultIsKept(t *testing.T) {
	q, _ := queue(t)
	j := submit(t, q, job.Spec{Kind: "append"}, work{Path: filepath.Join(t.TempDir(), "f"), Lines: 3})
	worker(t, q, job.Worker{Name: "w1"})
	got := ended(t, q, j.ID)
	if got.State != job.Done || string(got.Result) != `{"lines":3}` || len(got.History) != 1 || got.History[0].Outcome != "done" || got.Lease != nil {
		t.Errorf("got %+v", got)
	}
	list, err := q.List(t.Context())
	if err != nil || len(list) != 1 || list[0].State != job.Done {
		t.Errorf("list: %+v, %v", list, err)
	}
	if _, err := q.Cancel(t.Context(), j.ID); !errors.Is(err, job.ErrState) {
		t.Errorf("cancel of what is done: %v", err)
	}
}

func TestWhatCannotPassIsNotTriedAgainAndWhatMayIsForAWhile(t *testing.T) {
	q, _ := queue(t)
	worker(t, q, job.Worker{Name: "w1"})
	refused := submit(t, q, job.Spec{Kind: "refuse"}, work{})
	if got := ended(t, q, refused.ID); got.State != job.Failed || got.Tries != 1 || got.Error != "disk.vmdk: refused" {
		t.Errorf("a refusal: %+v", got)
	}
	unknown := submit(t, q, job.Spec{Kind: "nonsense"}, work{})
	if got := ended(t, q, unknown.ID); got.State != job.Failed || !strings.Contains(got.Error, `no jobs of the kind "nonsense"`) {
		t.Errorf("an unknown kind: %+v", got)
	}
	crash := submit(t, q, job.Spec{Kind: "crash"}, work{})
	got := ended(t, q, crash.ID)
	if got.State != job.Failed || got.Tries != 5 || len(got.History) != 5 || !strings.Contains(got.Error, "panic: no reason") {
		t.Errorf("a crash: %+v", got)
	}
	if again, err := q.Retry(t.Context(), crash.ID); err != nil || again.State != job.Queued || again.Tries != 0 {
		t.Errorf("retry: %+v, %v", again, err)
	}
	if got := ended(t, q, crash.ID); got.Tries != 5 || len(got.History) != 10 {
		t.Errorf("after the retry: %d tries, %d lines of history", got.Tries, len(got.History))
	}
}

func TestWhatAnAttemptHandsOverIsThereForTheNext(t *testing.T) {
	q, _ := queue(t)
	worker(t, q, job.Worker{Name: "w1"})
	j := submit(t, q, job.Spec{Kind: "relay"}, work{})
	got := ended(t, q, j.ID)
	if got.State != job.Done || got.Tries != 2 || string(got.Result) != "4" || got.Handed != nil {
		t.Errorf("got %+v", got)
	}
}

func TestCancel(t *testing.T) {
	q, _ := queue(t)
	path := filepath.Join(t.TempDir(), "f")
	waits := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 1})
	if got, err := q.Cancel(t.Context(), waits.ID); err != nil || got.State != job.Cancelled {
		t.Errorf("a job that waits: %+v, %v", got, err)
	}
	worker(t, q, job.Worker{Name: "w1"})
	runs := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 1e6, Pause: time.Millisecond})
	until(t, q, runs.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 0 })
	if _, err := q.Cancel(t.Context(), runs.ID); err != nil {
		t.Fatal(err)
	}
	if got := ended(t, q, runs.ID); got.State != job.Cancelled {
		t.Errorf("a job that runs: %+v", got)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file is left: %v", err)
	}
}

func TestAWorkerThatStopsGivesItsJobsBack(t *testing.T) {
	q, _ := queue(t)
	path := filepath.Join(t.TempDir(), "f")
	j := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 200, Pause: 5 * time.Millisecond})
	stop := worker(t, q, job.Worker{Name: "w1"})
	until(t, q, j.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 10 })
	stop()
	back, err := q.Get(t.Context(), j.ID)
	if err != nil || back.State != job.Queued || back.Tries != 0 {
		t.Fatalf("after the stop: %+v, %v", back, err)
	}
	worker(t, q, job.Worker{Name: "w2"})
	got := ended(t, q, j.ID)
	if got.State != job.Done || len(got.History) != 2 || got.History[0].Outcome != "suspended" {
		t.Errorf("got %+v", got)
	}
	wantLines(t, path, 200, 2)
}

// wantLines checks that lines are numbered without a gap or a double, and that no writer comes again after a later one has begun.
func wantLines(t *testing.T, path string, lines, writers int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []uint64
	n := 0
	for line := range strings.Lines(string(b)) {
		token, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseUint(token, 10, 64)
		if err != nil || number != strconv.Itoa(n) {
			t.Fatalf("line %d is %q", n, line)
		}
		switch {
		case len(tokens) == 0 || v > tokens[len(tokens)-1]:
			tokens = append(tokens, v)
		case v < tokens[len(tokens)-1]:
			t.Fatalf("line %d was written with the token %d after %v had begun", n, v, tokens)
		}
		n++
	}
	if n != lines || len(tokens) != writers {
		t.Errorf("%d lines by %d writers, want %d by %d", n, len(tokens), lines, writers)
	}
}

func TestAKilledWorkerIsReplaced(t *testing.T) {
	q, where := queue(t)
	path := filepath.Join(t.TempDir(), "f")
	j := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 400, Pause: 5 * time.Millisecond})
	w1 := process(t, "V2V_TEST_WORKER", workerSpec{Name: "w1", Where: where, Slots: 1, Lease: time.Second})
	until(t, q, j.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 20 })
	process(t, "V2V_TEST_WORKER", workerSpec{Name: "w2", Where: where, Slots: 1, Lease: time.Second})
	if err := w1.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	got := ended(t, q, j.ID)
	var outcomes []string
	for _, a := range got.History {
		outcomes = append(outcomes, a.Worker+" "+a.Outcome)
	}
	if diff := cmp.Diff([]string{"w1 lost", "w2 done"}, outcomes); diff != "" || got.State != job.Done || got.Tries != 0 {
		t.Errorf("%s: %s", got.State, diff)
	}
	wantLines(t, path, 400, 2)
}

// A process that is stopped cannot look at its lease before it writes on; the kernel has to end it before anyone else begins.
func TestAStoppedWorkerThatAwakesWritesNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		stop func(t *testing.T, workerPID int)
	}{
		{"the worker and its task are stopped", func(t *testing.T, pid int) {
			for _, p := range append(children(t, pid), pid) {
				send(t, p, unix.SIGSTOP)
			}
		}},
		{"only the worker is stopped", func(t *testing.T, pid int) { send(t, pid, unix.SIGSTOP) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, where := queue(t)
			path := filepath.Join(t.TempDir(), "f")
			j := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 1000, Pause: 2 * time.Millisecond})
			w1 := process(t, "V2V_TEST_WORKER", workerSpec{Name: "w1", Where: where, Slots: 1, Lease: 1500 * time.Millisecond})
			first := until(t, q, j.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 20 })
			tasks := children(t, w1.Process.Pid)
			process(t, "V2V_TEST_WORKER", workerSpec{Name: "w2", Where: where, Slots: 1, Lease: 1500 * time.Millisecond})
			tc.stop(t, w1.Process.Pid)
			until(t, q, j.ID, "another worker", func(j job.Job) bool {
				return j.Lease != nil && j.Lease.Token > first.Lease.Token && j.Progress != nil
			})
			for _, p := range tasks {
				if s := stateOf(p); s != "Z" && s != "" {
					t.Errorf("the task of the first lease is still there, in state %s", s)
				}
			}
			send(t, w1.Process.Pid, unix.SIGCONT)
			if got := ended(t, q, j.ID); got.State != job.Done || got.History[0].Outcome != "lost" {
				t.Errorf("got %+v", got)
			}
			wantLines(t, path, 1000, 2)
		})
	}
}

func TestAStoppedTaskIsEndedByItsFuseAndTriedAgain(t *testing.T) {
	q, where := queue(t)
	path := filepath.Join(t.TempDir(), "f")
	j := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 400, Pause: 2 * time.Millisecond})
	w1 := process(t, "V2V_TEST_WORKER", workerSpec{Name: "w1", Where: where, Slots: 1, Lease: time.Second})
	until(t, q, j.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 20 })
	for _, p := range children(t, w1.Process.Pid) {
		send(t, p, unix.SIGSTOP)
	}
	got := until(t, q, j.ID, "an attempt that died", func(j job.Job) bool { return len(j.History) > 0 && j.History[0].Outcome == "died" })
	if !strings.Contains(got.History[0].Error, "its process was killed") {
		t.Errorf("got %q", got.History[0].Error)
	}
	if got := ended(t, q, j.ID); got.State != job.Done {
		t.Errorf("got %+v", got)
	}
	wantLines(t, path, 400, 2)
}

func children(t *testing.T, pid int) (list []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal("no tasks", err)
	}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, s := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		t.Fatalf("process %d has no children", pid)
	}
	return list
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatalf("signal %d: %v", pid, err)
	}
}

func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

func TestLimitsOfADatastoreHoldOverAllWorkers(t *testing.T) {
	q, _ := queue(t)
	dir := t.TempDir()
	if err := q.SetLimit(t.Context(), "nfs:/slow", 2); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 10 {
		j := submit(t, q, job.Spec{ID: fmt.Sprintf("slow-%02d", i), Kind: "append", Datastore: "nfs:/slow"}, work{Path: filepath.Join(dir, strconv.Itoa(i)), Lines: 20, Pause: 5 * time.Millisecond})
		ids = append(ids, j.ID)
	}
	fast := submit(t, q, job.Spec{ID: "fast", Kind: "append", Datastore: "nfs:/fast"}, work{Path: filepath.Join(dir, "fast"), Lines: 1})
	for i := range 3 {
		worker(t, q, job.Worker{Name: fmt.Sprintf("w%d", i), Slots: 4})
	}
	quick := ended(t, q, fast.ID)
	var slow []job.Job
	for _, id := range ids {
		j := ended(t, q, id)
		if j.State != job.Done {
			t.Errorf("%s: %+v", id, j)
		}
		slow = append(slow, j)
	}
	for _, j := range slow {
		at, together := j.History[0].Started, 0
		for _, o := range slow {
			if !o.History[0].Started.After(at) && o.History[0].Ended.After(at) {
				together++
			}
		}
		if together > 2 {
			t.Errorf("%d jobs ran together when %s began", together, j.ID)
		}
	}
	if last := slow[len(slow)-1]; !quick.Finished.Before(last.Finished) {
		t.Errorf("a job for another datastore waited for all of them: %v, %v", quick.Finished, last.Finished)
	}
}
