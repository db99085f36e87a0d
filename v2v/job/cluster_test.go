package job_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/v2v/job"
)

// cluster starts three servers as processes and says where they are.
func cluster(t testing.TB) (nodes []*exec.Cmd, where job.Server) {
	t.Helper()
	p := ports(t, 6)
	var urls []string
	ready := make(chan *exec.Cmd, 3)
	for i := range 3 {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", p[i]))
		ready <- process(t, "V2V_TEST_NODE", nodeSpec{Name: fmt.Sprintf("n%d", i), Dir: filepath.Join(t.TempDir(), "js"), Client: p[i], Peer: p[3+i], Routes: p[3:]})
	}
	for range 3 {
		nodes = append(nodes, <-ready)
	}
	return nodes, job.Server{URL: strings.Join(urls, ",")}
}

func TestAClusterLosesANodeAndAWorkerAndNoJob(t *testing.T) {
	nodes, where := cluster(t)
	q, err := job.Connect(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	dir := t.TempDir()
	var ids []string
	for i := range 9 {
		j := submit(t, q, job.Spec{ID: fmt.Sprintf("j%d", i), Kind: "append", Datastore: "ds"}, work{Path: filepath.Join(dir, fmt.Sprint(i)), Lines: 300, Pause: 3 * time.Millisecond})
		ids = append(ids, j.ID)
	}
	var workers []*exec.Cmd
	for i := range 3 {
		workers = append(workers, process(t, "V2V_TEST_WORKER", workerSpec{Name: fmt.Sprintf("w%d", i), Where: where, Slots: 1, Lease: 3 * time.Second}))
	}
	first := until(t, q, ids[0], "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 10 })
	for i, w := range workers {
		if fmt.Sprintf("w%d", i) == first.Lease.Worker {
			if err := w.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nodes[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		got := ended(t, q, id)
		if got.State != job.Done || got.Tries != 0 {
			t.Errorf("%s: %+v", id, got)
		}
		wantLines(t, filepath.Join(dir, fmt.Sprint(i)), 300, len(got.History))
	}
	lost, err := q.Get(t.Context(), ids[0])
	if err != nil || lost.History[0].Outcome != "lost" {
		t.Errorf("the killed worker's job: %+v, %v", lost.History, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "9")); err == nil {
		t.Error("a job that was not submitted ran")
	}
}

// A job whose process the kernel ended because nobody answered for its lease has not failed.
func TestASilentServerCostsNoTry(t *testing.T) {
	p := ports(t, 1)
	server := process(t, "V2V_TEST_NODE", nodeSpec{Name: "n", Dir: filepath.Join(t.TempDir(), "js"), Client: p[0]})
	where := job.Server{URL: fmt.Sprintf("nats://127.0.0.1:%d", p[0])}
	q, err := job.Connect(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	path := filepath.Join(t.TempDir(), "f")
	j := submit(t, q, job.Spec{Kind: "append"}, work{Path: path, Lines: 1000, Pause: 5 * time.Millisecond})
	w := process(t, "V2V_TEST_WORKER", workerSpec{Name: "w1", Where: where, Slots: 1, Lease: 1500 * time.Millisecond})
	until(t, q, j.ID, "progress", func(j job.Job) bool { return j.Progress != nil && j.Progress.Done > 20 })
	task := children(t, w.Process.Pid)[0]
	fd, err := unix.PidfdOpen(task, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	send(t, server.Process.Pid, unix.SIGSTOP)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Minute/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Errorf("the task of a lease that nobody renewed is still there: %v", err)
		}
		break
	}
	send(t, server.Process.Pid, unix.SIGCONT)
	got := ended(t, q, j.ID)
	if got.State != job.Done || got.Tries != 0 || got.History[0].Outcome != "lost" {
		t.Errorf("%s after %d failed attempts: %+v", got.State, got.Tries, got.History)
	}
	wantLines(t, path, 1000, len(got.History))
}
