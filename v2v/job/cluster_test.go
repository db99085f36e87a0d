package job_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
