package child

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"initd/boot/engine"
	"initd/boot/step"
)

// TestMain plays the program that a Runner starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "child" {
		os.Exit(Main(os.Args[2], functions(), os.Stderr))
	}
	os.Exit(m.Run())
}

func functions() map[string]step.ChildFunc {
	return map[string]step.ChildFunc{
		"echo": func(_ context.Context, in *step.ChildInput) (any, error) {
			var s string
			err := json.Unmarshal(in.Params, &s)
			in.Tell(step.ChildProgress{Index: 3, Progress: &engine.Progress{Waiting: "nothing"}})
			return s + " " + strings.Join(os.Args[1:], " ") + " " + strings.Join(os.Environ(), ","), err
		},
		"cat": func(_ context.Context, in *step.ChildInput) (any, error) {
			b, err := io.ReadAll(in.Files[0])
			if err != nil {
				return nil, err
			}
			f, err := sealed("out", append([]byte("seen "), b...))
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in.Tell(step.ChildProgress{Done: true, Files: []*os.File{f}})
			return nil, nil
		},
		"fail": func(context.Context, *step.ChildInput) (any, error) {
			return nil, &step.ChildError{CodeText: "X-1", Message: "no luck", ObjectText: "disk", Final: true}
		},
		"panic": func(_ context.Context, in *step.ChildInput) (any, error) { panic("secret " + string(in.Params)) },
		"exit":  func(context.Context, *step.ChildInput) (any, error) { os.Exit(7); return nil, nil },
		// A sleep, because the runtime ends a program in which nothing can ever happen.
		"begin": func(_ context.Context, in *step.ChildInput) (any, error) {
			in.Tell(step.ChildProgress{Index: 1, Done: true})
			time.Sleep(time.Hour) // as hang
			return nil, nil
		},
		"hang": func(context.Context, *step.ChildInput) (any, error) { time.Sleep(time.Hour); return nil, nil },
		"patient": func(ctx context.Context, _ *step.ChildInput) (any, error) {
			<-ctx.Done()
			return nil, errors.New("still waiting for the other side")
		},
		"divided": func(ctx context.Context, in *step.ChildInput) (any, error) {
			var wg sync.WaitGroup
			for i, part := range in.Parts(ctx, 3) {
				in.Tell(step.ChildProgress{Index: i})
				wg.Go(func() {
					<-part.Done()
					in.Tell(step.ChildProgress{Index: i, Done: true, Over: true, Error: step.AsChildError(part.Err())})
				})
			}
			wg.Wait()
			return "by itself", nil
		},
		"below": func(ctx context.Context, in *step.ChildInput) (any, error) {
			wait, err := in.Sub(ctx, step.Call{Func: "echo", Params: "from below"})
			if err != nil {
				return nil, err
			}
			return wait()
		},
	}
}

func run(t *testing.T, c step.Call, limit time.Duration) (step.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c.Unit = "test/one"
	return (&Runner{Exe: os.Args[0]}).Run(ctx, c)
}

const guard = time.Minute

func TestResultAndProgressArriveAndArgvHoldsOnlyNames(t *testing.T) {
	var heard []int
	r, err := run(t, step.Call{Func: "echo", Params: "hello", Progress: func(p step.ChildProgress) { heard = append(heard, p.Index) }}, guard)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.Result), `"hello child echo PATH=/usr/sbin:/usr/bin:/sbin:/bin,LANG=C,GOMAXPROCS=1,GODEBUG=disablethp=1"`; got != want {
		t.Errorf("result: got %s, want %s", got, want)
	}
	if len(heard) != 1 || heard[0] != 3 {
		t.Errorf("progress: got %v, want [3]", heard)
	}
}

func TestDescriptorsGoBothWays(t *testing.T) {
	in, err := sealed("in", []byte("bytes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var got string
	_, err = run(t, step.Call{Func: "cat", Files: []*os.File{in}, Progress: func(p step.ChildProgress) {
		b := make([]byte, 64)
		n, _ := p.Files[0].ReadAt(b, 0)
		got = string(b[:n])
	}}, guard)
	if err != nil || got != "seen bytes" {
		t.Errorf("got %q, %v; want \"seen bytes\"", got, err)
	}
}

func TestErrorsKeepTheirParts(t *testing.T) {
	_, err := run(t, step.Call{Func: "fail"}, guard)
	var c *step.ChildError
	if !errors.As(err, &c) || c.Code() != "X-1" || c.Object() != "disk" || c.Retryable() {
		t.Errorf("got %#v, want code X-1, object disk, not retryable", err)
	}
}

func TestPanicNamesThePlaceAndNotTheValues(t *testing.T) {
	_, err := run(t, step.Call{Func: "panic", Params: "topsecret"}, guard)
	var c *step.ChildError
	if !errors.As(err, &c) || c.Code() != "CHILD-PANIC" || !strings.Contains(c.Message, "child.functions") {
		t.Fatalf("got %v, want CHILD-PANIC at a function of this test", err)
	}
	if strings.Contains(c.Message, "topsecret") {
		t.Errorf("the message holds the value: %s", c.Message)
	}
}

func TestAChildThatDiesIsAnErrorWithItsStatus(t *testing.T) {
	_, err := run(t, step.Call{Func: "exit"}, guard)
	if err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got %v, want exit status 7", err)
	}
}

func TestDeadlineEndsAChildAndAPatientOneSaysWhatItWaitedFor(t *testing.T) {
	if _, err := run(t, step.Call{Func: "hang"}, 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: got %v, want the deadline", err)
	}
	// It has a tenth of the time to say so, which a machine that is busy may not give it.
	var err error
	for within := 3 * time.Second; within < guard; within *= 2 {
		if _, err = run(t, step.Call{Func: "patient"}, within); err != nil && err.Error() == "still waiting for the other side" {
			return
		}
	}
	t.Errorf("patient: got %v, want its own words", err)
}

func TestAChildRunsAnotherBelowItself(t *testing.T) {
	r, err := run(t, step.Call{Func: "below"}, guard)
	if err != nil || !strings.Contains(string(r.Result), "from below child echo") {
		t.Errorf("got %s, %v", r.Result, err)
	}
}

func TestWithoutDescriptorsItRefuses(t *testing.T) {
	if code := Main("echo", functions(), io.Discard); code != 2 {
		t.Errorf("status: got %d, want 2", code)
	}
}

// While a child works on an object, another call for it waits; it goes on when
// that one and everything it started is gone. Others are not held back.
func TestNoTwoChildrenWorkOnOneObject(t *testing.T) {
	r := &Runner{Exe: os.Args[0]}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		_, err := r.Run(ctx, step.Call{Func: "begin", Unit: "mount/a", Objects: []string{"a", "b"}, Progress: func(p step.ChildProgress) {
			if p.Done { // part 1, which is b's
				close(begun)
			}
		}})
		first <- err
	}()
	<-begun
	short, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	if _, err := r.Run(short, step.Call{Func: "echo", Params: "x", Unit: "second", Objects: []string{"a"}}); err == nil || !strings.Contains(err.Error(), "wait for begin of mount/a (process ") {
		t.Errorf("a second child on a: got %v, want that it waits for the first", err)
	}
	if _, err := r.Run(context.Background(), step.Call{Func: "echo", Params: "x", Unit: "other", Objects: []string{"b", "c"}}); err != nil {
		t.Errorf("on b, which is through, and c: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: got %v, want that it was called off", err)
	}
	if _, err := r.Run(context.Background(), step.Call{Func: "echo", Params: "x", Unit: "third", Objects: []string{"a"}}); err != nil {
		t.Errorf("on a, after the first is gone: %v", err)
	}
	if err := r.Free(context.Background(), "a"); err != nil {
		t.Errorf("a is free: %v", err)
	}
}

// What a file says of a group in which nobody lives is forgotten.
func TestWhatIsGoneIsNoLeftover(t *testing.T) {
	dir := t.TempDir()
	r := &Runner{Exe: os.Args[0], Cgroup: filepath.Join(dir, "cgroup"), State: filepath.Join(dir, "children")}
	for _, d := range []string{r.Cgroup, r.State} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"mount-1.json": `{"func":"mount","unit":"mount/a","objects":["mount/a"]}`, "mount-2.json": "{", "mount-3.json": ""} {
		if err := os.WriteFile(filepath.Join(r.State, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list := r.Adopt(); len(list) != 0 {
		t.Errorf("leftovers: got %v, want none", list)
	}
	if left, err := os.ReadDir(r.State); err != nil || len(left) != 0 {
		t.Errorf("files that are left: %v, %v", left, err)
	}
	if err := r.Free(context.Background(), "mount/a"); err != nil {
		t.Error(err)
	}
}

func TestOnePartIsCalledOffAndTheOthersGoOn(t *testing.T) {
	r := &Runner{Exe: os.Args[0]}
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	var parts []context.Context
	var ends []context.CancelFunc
	for range 3 {
		part, end := context.WithCancel(ctx)
		parts, ends = append(parts, part), append(ends, end)
	}
	heard := make(chan step.ChildProgress, 6)
	wait, err := r.Start(ctx, step.Call{Func: "divided", Unit: "test/one", Parts: parts, Objects: []string{"a", "b", "c"},
		Progress: func(p step.ChildProgress) { heard <- p }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-heard
	}
	over := make(chan error, 1)
	var reply step.Reply
	go func() {
		var err error
		reply, err = wait()
		over <- err
	}()
	ends[1]()
	if p := <-heard; p.Index != 1 || !p.Done || p.Error == nil {
		t.Errorf("called off was part 1, heard was %+v", p)
	}
	if err := r.Free(ctx, "b"); err != nil {
		t.Errorf("the object of the part that ended: %v", err)
	}
	gone, now := context.WithCancel(ctx)
	now()
	for _, o := range []string{"a", "c"} {
		if r.Free(gone, o) == nil {
			t.Errorf("the object %s of a part that goes on is free", o)
		}
	}
	select {
	case p := <-heard:
		t.Errorf("another part was touched: %+v", p)
	case err := <-over:
		t.Errorf("the call ended: %v", err)
	default:
	}
	cancel() // the whole call: told before it is killed
	if err := <-over; err != nil || string(reply.Result) != `"by itself"` {
		t.Errorf("got %s, %v; want that it ends by itself", reply.Result, err)
	}
}
