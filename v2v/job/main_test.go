package job_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"initd/v2v/job"
	"initd/v2v/job/task"
)

// TestMain plays the program: the tasks of the tests' jobs, workers and servers as processes of their own.
func TestMain(m *testing.M) {
	task.Main(kinds())
	switch {
	case os.Getenv("V2V_TEST_WORKER") != "":
		playWorker(os.Getenv("V2V_TEST_WORKER"))
	case os.Getenv("V2V_TEST_NODE") != "":
		playNode(os.Getenv("V2V_TEST_NODE"))
	}
	os.Exit(m.Run())
}

// work is the argument of the kind "append": it writes numbered lines to a file that an attempt can go on with.
type work struct {
	Path  string
	Lines int
	// Pause is between lines.
	Pause time.Duration
}

func kinds() map[string]task.Kind {
	return map[string]task.Kind{
		"append": appendLines,
		"refuse": func(context.Context, task.Order, task.Reporter) (json.RawMessage, error) {
			return nil, &task.Failure{Text: "disk.vmdk: refused", Final: true}
		},
		"relay": relay,
		"crash": func(context.Context, task.Order, task.Reporter) (json.RawMessage, error) { panic("no reason") },
	}
}

// relay hands over what it was given and one more, twice, and dies on the spot; the third attempt gives what it was handed.
func relay(ctx context.Context, o task.Order, say task.Reporter) (json.RawMessage, error) {
	var n int
	if o.Handed != nil {
		if err := json.Unmarshal(o.Handed, &n); err != nil {
			return nil, err
		}
	}
	if n == 4 {
		return o.Handed, nil
	}
	if err := say.Hand(ctx, make(json.RawMessage, task.MaxHanded+1)); err == nil {
		return nil, &task.Failure{Text: "too much was taken", Final: true}
	}
	for range 2 {
		n++
		if err := say.Hand(ctx, fmt.Append(nil, n)); err != nil {
			return nil, err
		}
	}
	panic("after it was handed over")
}

// appendLines writes "TOKEN N" lines. What it does in one write is on the disk as a whole or not at all.
func appendLines(ctx context.Context, o task.Order, say task.Reporter) (json.RawMessage, error) {
	var w work
	if err := json.Unmarshal(o.Args, &w); err != nil {
		return nil, err
	}
	if o.Clean {
		return nil, os.RemoveAll(w.Path)
	}
	f, err := os.OpenFile(w.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	have, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	for n := strings.Count(string(have), "\n"); n < w.Lines; n++ {
		if _, err := fmt.Fprintf(f, "%d %d\n", o.Token, n); err != nil {
			return nil, err
		}
		say.Progress(task.Progress{Phase: "writing", Done: int64(n + 1), Total: int64(w.Lines)})
		select {
		case <-time.After(w.Pause):
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), task.ErrCancelled) {
				return nil, errors.Join(os.Remove(w.Path), context.Cause(ctx))
			}
			return nil, context.Cause(ctx)
		}
	}
	return json.Marshal(map[string]int{"lines": w.Lines})
}

// workerSpec is what a worker process is told.
type workerSpec struct {
	Name  string
	Where job.Server
	Slots int
	Lease time.Duration
}

func playWorker(text string) {
	var s workerSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s.Where.Log = func(line string) { fmt.Fprintln(os.Stderr, s.Name+":", line) }
	q, err := job.Connect(context.Background(), s.Where)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	w := &job.Worker{Queue: q, Name: s.Name, Slots: s.Slots, Lease: s.Lease, Retry: 50 * time.Millisecond, Log: s.Where.Log}
	_ = w.Run(ctx)
	os.Exit(0)
}

// nodeSpec is one server of a cluster.
type nodeSpec struct {
	Name, Dir    string
	Client, Peer int
	Routes       []int
}

func playNode(text string) {
	var s nodeSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	opts := &server.Options{ServerName: s.Name, Host: "127.0.0.1", Port: s.Client, JetStream: true, StoreDir: s.Dir, NoSigs: true, SyncAlways: true}
	if len(s.Routes) > 0 {
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: s.Peer}
	}
	for _, r := range s.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", r)})
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		panic(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		panic("not ready")
	}
	fmt.Println("ready")
	srv.WaitForShutdown()
}

// process starts this test program in one of its roles, in a process group of its own, and waits until it is ready.
func process(t testing.TB, role string, spec any) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the process of %s said %q: %v", role, line, err)
	}
	return cmd
}

// ports finds addresses on loopback that nobody listens on.
func ports(t testing.TB, n int) []int {
	t.Helper()
	var list []int
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		list = append(list, l.Addr().(*net.TCPAddr).Port)
	}
	return list
}

// queue connects to the queue of a directory, which this process serves for as long as the test lasts.
func queue(t testing.TB) (*job.Queue, job.Server) {
	t.Helper()
	where := job.Server{Dir: filepath.Join(t.TempDir(), "queue")}
	ctx, cancel := context.WithCancel(context.Background())
	q, err := job.Connect(ctx, where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		cancel()
	})
	return q, where
}

func submit(t testing.TB, q *job.Queue, s job.Spec, args any) job.Job {
	t.Helper()
	b, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	s.Args = b
	j, added, err := q.Submit(t.Context(), s)
	if err != nil || !added {
		t.Fatalf("submit: added %v, %v", added, err)
	}
	return j
}

// until follows a job until what is wanted is so.
func until(t testing.TB, q *job.Queue, id, what string, wanted func(job.Job) bool) job.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var last job.Job
	for j, err := range q.Follow(ctx, id) {
		if err != nil {
			t.Fatalf("%s never came: %v; last seen %+v", what, err, last)
		}
		if last = j; wanted(j) {
			return j
		}
	}
	t.Fatalf("the job ended before %s: %+v", what, last)
	return last
}

func ended(t testing.TB, q *job.Queue, id string) job.Job {
	t.Helper()
	return until(t, q, id, "its end", func(j job.Job) bool { return j.State.Ended() })
}
