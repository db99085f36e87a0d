package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/initd/pid1/client"
	"initd/initd/pid1/pid1test"
	"initd/initd/pid1/wire"
)

func TestMain(m *testing.M) {
	pid1test.Main(m, map[string]pid1test.Role{
		"orphans": orphans, "wait": waitForEver, "exit": exitWith, "say": say, "show": show, "flood": flood,
		"signal-init": signalInit, "kill-init": killInit, "stubborn": stubborn,
	})
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), pid1test.Guard)
	t.Cleanup(cancel)
	return ctx
}

// leader is a client that remembers what it passed over.
type leader struct {
	*client.Client
	seen []wire.Message
}

// lead says Hello as the next orchestrator of m.
func lead(t *testing.T, m *pid1test.Machine) (*pid1test.Orchestrator, *leader) {
	t.Helper()
	o := m.Next()
	c, err := client.New(deadline(t), o.Conn, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return o, &leader{Client: c}
}

func role(args ...string) *wire.Spec {
	return &wire.Spec{Argv: append([]string{pid1test.Self}, args...), Env: []string{"A=b"}}
}

func spawn(t *testing.T, c *leader, name string, spec *wire.Spec, files ...*os.File) client.Process {
	t.Helper()
	p, err := c.Spawn(deadline(t), name, "services/"+name, spec, files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.PIDFD.Close() })
	return p
}

// exit waits for the end of a process.
func exit(t *testing.T, c *leader, id uint64) *wire.Exited {
	t.Helper()
	return await(t, c, func(m wire.Message) bool {
		e, ok := m.(*wire.Exited)
		return ok && e.ID == id
	}).(*wire.Exited)
}

func running(t *testing.T, c *leader, id uint64) {
	t.Helper()
	await(t, c, func(m wire.Message) bool {
		r, ok := m.(*wire.Running)
		return ok && r.ID == id
	})
}

func await(t *testing.T, c *leader, want func(wire.Message) bool) wire.Message {
	t.Helper()
	for i, m := range c.seen {
		if want(m) {
			c.seen = slices.Delete(c.seen, i, i+1)
			return m
		}
	}
	guard := time.After(pid1test.Guard)
	for {
		select {
		case m, ok := <-c.Exits():
			if !ok {
				t.Fatal("the connection to init ended")
			}
			if want(m) {
				return m
			}
			c.seen = append(c.seen, m)
		case <-guard:
			t.Fatal("init does not tell")
		}
	}
}

func event(t *testing.T, c *leader, kind wire.EventKind) wire.Event {
	t.Helper()
	guard := time.After(pid1test.Guard)
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				t.Fatal("the connection to init ended")
			}
			if e.Kind == kind {
				return e
			}
		case <-guard:
			t.Fatalf("event %d does not come", kind)
		}
	}
}

// reboot tells init to end the machine, and sees that it does.
func reboot(t *testing.T, m *pid1test.Machine, c *leader, kind wire.Kind) {
	t.Helper()
	if err := c.Reboot(deadline(t), kind); err != nil && !errors.Is(err, client.ErrLost) {
		t.Fatal(err)
	}
	ends(t, m, kind)
}

// ends waits for the end of a machine, which a namespace of processes has too (pid_namespaces(7)).
func ends(t *testing.T, m *pid1test.Machine, kind wire.Kind) {
	t.Helper()
	want, what := unix.SIGHUP, "restart"
	if kind == wire.KindPowerOff {
		want, what = unix.SIGINT, "power off"
	}
	if w := m.Wait(); w.Signal() != want {
		t.Errorf("init ended by %v, want the namespace's %s", w, what)
	}
}

func TestInitBootsReapsOrphansAndPowersOff(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	h := c.Hello()
	if h.Generation != 1 || h.Deaths != 0 || h.Version != 1 || h.Capabilities&wire.CapCgroup == 0 || h.Program != "init test" {
		t.Errorf("hello: %+v", h)
	}
	p := spawn(t, c, "parent", role("orphans"))
	if e := exit(t, c, p.ID); e.Status != 0 || e.Name != "parent" || e.Started == 0 || e.Ended < e.Started || e.MaxRSS == 0 {
		t.Errorf("exited: %+v", e)
	}
	if err := c.Signal(deadline(t), p.ID, unix.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	m.Until("300 orphans reaped", func() bool {
		h, err := c.Again(deadline(t), 0)
		return err == nil && h.Orphans == 300
	})
	for _, dir := range []string{"/dev/pts", "/sys/kernel", "/run/initd", "/sys/fs/cgroup/initd/services", "/dev/fd/0"} {
		if _, err := os.Stat(m.Path(dir)); err != nil {
			t.Errorf("first mounts: %v", err)
		}
	}
	reboot(t, m, c, wire.KindPowerOff)
}

func TestAServiceGetsWhatItsSpecSays(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := role("show")
	spec.UID, spec.GID, spec.Groups, spec.NoNewPrivs, spec.Umask = 101, 102, []uint32{200}, true, 0o077
	spec.OOMScore, spec.Nice, spec.Dir = 300, 5, "/run"
	spec.Limits = []wire.Limit{{Resource: unix.RLIMIT_NPROC, Soft: 500, Hard: 600}, {Resource: unix.RLIMIT_NOFILE, Soft: 300, Hard: 400}}
	spec.Files = []uint32{7, 1}
	null, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p := spawn(t, c, "show", spec, null, w)
	w.Close()
	var got strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if e := exit(t, c, p.ID); e.Status != 0 {
		t.Errorf("exited: %+v", e)
	}
	want := `args show
env A=b
dir /run
uid 101 gid 102 groups [200]
umask 77
nnp 1
oom 300 nice 5
nproc 500 600 files 400
cgroup /initd/services/show
0 -> /dev/null
1 -> pipe
2 -> /dev/null
7 -> /dev/zero
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("the service's view (-want +got):\n%s", diff)
	}
}

func TestExitsAreKeptUntilAcknowledgedAndOrchestratorsComeBack(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o, c := lead(t, m)
	dead := spawn(t, c, "dead", role("exit", "3"))
	alive := spawn(t, c, "alive", role("wait"))
	running(t, c, alive.ID)
	exit(t, c, dead.ID)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := c.Store(deadline(t), "log/alive", wire.FlagDrain, w); err != nil {
		t.Fatal(err)
	}
	w.Close()

	o.Kill()
	_, c = lead(t, m)
	if h := c.Hello(); h.Generation != 2 || h.Deaths != 1 || h.Unacked != 1 || h.Busy != 0 {
		t.Errorf("hello: %+v", h)
	}
	if e := exit(t, c, dead.ID); syscall.WaitStatus(e.Status).ExitStatus() != 3 {
		t.Errorf("exited: %+v", e)
	}
	if e := event(t, c, wire.EventNote); !strings.Contains(e.Text, "generation 1: killed by SIGKILL") {
		t.Errorf("event: %+v", e)
	}
	ps, ds, err := c.List(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range ps {
		names = append(names, p.Name)
		if (p.PIDFD == nil) != (p.State == wire.StateExited) {
			t.Errorf("%s: state %d, pidfd %v", p.Name, p.State, p.PIDFD)
		}
		if p.Name == "alive" && (p.ID != alive.ID || p.PID != uint32(alive.PID) || p.State != wire.StateRunning) {
			t.Errorf("the service changed: %+v, was %+v", p.Service, alive)
		}
	}
	if diff := cmp.Diff([]string{"dead", "alive"}, names); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]wire.Stored{{Name: "log/alive", Flags: wire.FlagDrain}}, ds); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	f, err := c.Fetch(deadline(t), "log/alive")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("still open"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b := make([]byte, 32)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "still open" {
		t.Errorf("through the stored pipe came %q, %v", b[:n], err)
	}
	if err := c.Drop(deadline(t), "log/alive"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(b); n != 0 || err == nil {
		t.Errorf("a dropped descriptor is still open: %q, %v", b[:n], err)
	}
	if err := c.Ack(deadline(t), dead.ID); err != nil {
		t.Fatal(err)
	}
	if h, err := c.Again(deadline(t), 0); err != nil || h.Unacked != 0 {
		t.Errorf("after the Ack: %+v, %v", h, err)
	}
	if _, err := os.Stat(m.Path("/sys/fs/cgroup/initd/services/dead")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup stayed: %v", err)
	}
}

func TestWhatInitRefuses(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	ctx := deadline(t)
	p := spawn(t, c, "one", role("wait"))
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	spawnIn := func(name, group string) error {
		_, err := c.Spawn(ctx, name, group, role("wait"))
		return err
	}
	_, fetchErr := c.Fetch(ctx, "nothing")
	for _, row := range []struct {
		name string
		got  error
		want syscall.Errno
	}{
		{"a second process of a name", spawnIn("one", "services/one"), unix.EEXIST},
		{"a group outside", spawnIn("two", "services/../../../x"), unix.EINVAL},
		{"the orchestrator's group", spawnIn("two", "orchestrator"), unix.EINVAL},
		{"a file of the cgroup tree as a group", spawnIn("two", "services/cgroup.kill"), unix.EINVAL},
		{"a process without a name", spawnIn("", "services/x"), unix.EINVAL},
		{"a name that is too long", spawnIn(strings.Repeat("x", 100), "services/x"), unix.EINVAL},
		{"an Ack for one that runs", c.Ack(ctx, p.ID), unix.EBUSY},
		{"an Ack for nobody", c.Ack(ctx, 999), unix.ENOENT},
		{"a signal to nobody", c.Signal(ctx, 999, unix.SIGTERM, false), unix.ENOENT},
		{"a signal that is none", c.Signal(ctx, p.ID, 200, false), unix.EINVAL},
		{"a descriptor that is not there", fetchErr, unix.ENOENT},
		{"to drop what is not there", c.Drop(ctx, "nothing"), unix.ENOENT},
		{"a descriptor without a name", c.Store(ctx, "", 0, null), unix.EINVAL},
		{"a way down that is none", c.Reboot(ctx, 77), unix.EINVAL},
		{"a relative upgrade", c.Restart(ctx, "initd"), unix.EINVAL},
		{"a watchdog that is not there", c.Watchdog(ctx, "", time.Minute), unix.ENODEV},
	} {
		if !errors.Is(row.got, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, row.got, row.want)
		}
	}
}

func TestAProgramThatCannotBeLoadedIsToldWithTheReason(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	missing := spawn(t, c, "missing", &wire.Spec{Argv: []string{"/usr/bin/none"}})
	if e := exit(t, c, missing.ID); e.Stage != wire.StageExec || syscall.Errno(e.Errno) != unix.ENOENT {
		t.Errorf("exited: %+v", e)
	}
	found := spawn(t, c, "found", &wire.Spec{Argv: []string{pid1test.Self, "exit", "0"}, Path: "initd", Env: []string{"PATH=/nowhere:/usr/bin"}})
	if e := exit(t, c, found.ID); e.Stage != 0 || e.Status != 0 {
		t.Errorf("exited: %+v", e)
	}
	unknown := spawn(t, c, "unknown", &wire.Spec{Argv: []string{"none"}})
	if e := exit(t, c, unknown.ID); e.Stage != wire.StageExec || syscall.Errno(e.Errno) != unix.ENOENT {
		t.Errorf("exited: %+v", e)
	}
	spec := role("wait")
	spec.Dir = "/nowhere"
	lost := spawn(t, c, "lost", spec)
	if e := exit(t, c, lost.ID); e.Stage != wire.StageDir || syscall.Errno(e.Errno) != unix.ENOENT {
		t.Errorf("exited: %+v", e)
	}
}

func TestRecordsThatInitDoesNotKnowAreAnswered(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	o := m.Next()
	receive := func() (wire.Record, error) {
		for {
			r, _, err := o.Conn.Receive()
			if err != nil || r.Message.Op() != wire.OpEvent {
				return r, err
			}
		}
	}
	ask := func(seq uint64, spoil func([]byte)) *wire.Answer {
		t.Helper()
		b, err := wire.Record{Seq: seq, Message: &wire.Fetch{Name: "x"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		spoil(b[:])
		if err := o.Send(b[:]); err != nil {
			t.Fatal(err)
		}
		r, err := receive()
		if err != nil || r.Seq != seq {
			t.Fatalf("got %+v, %v", r, err)
		}
		return r.Message.(*wire.Answer)
	}
	if a := ask(1, func([]byte) {}); syscall.Errno(a.Errno) != unix.EPROTO {
		t.Errorf("before Hello: %+v", a)
	}
	if err := o.Conn.Send(wire.Record{Seq: 2, Message: &wire.Hello{Min: 90, Max: 91}}); err != nil {
		t.Fatal(err)
	}
	if r, err := receive(); err != nil || syscall.Errno(r.Message.(*wire.Answer).Errno) != unix.EPROTONOSUPPORT {
		t.Errorf("a Hello of other versions: %+v, %v", r, err)
	}
	if err := o.Conn.Send(wire.Record{Seq: 3, Message: &wire.Hello{Min: 1, Max: 9}}); err != nil {
		t.Fatal(err)
	}
	if r, err := receive(); err != nil || r.Message.(*wire.Hello).Version != 1 {
		t.Errorf("a Hello of a newer orchestrator: %+v, %v", r, err)
	}
	if a := ask(4, func(b []byte) { b[6], b[7] = 0xff, 0x0f }); syscall.Errno(a.Errno) != unix.EOPNOTSUPP {
		t.Errorf("an unknown operation: %+v", a)
	}
	if a := ask(5, func(b []byte) { b[24] = 0xff }); syscall.Errno(a.Errno) != unix.EBADMSG {
		t.Errorf("a malformed record: %+v", a)
	}
	for _, garbage := range [][]byte{{1}, make([]byte, 511), make([]byte, 4096)} {
		if err := o.Send(garbage); err != nil {
			t.Fatal(err)
		}
	}
	if a := ask(6, func([]byte) {}); syscall.Errno(a.Errno) != unix.ENOENT {
		t.Errorf("after garbage: %+v", a)
	}
}

func TestNoSignalEndsInit(t *testing.T) {
	m := pid1test.Boot(t, pid1test.Options{})
	_, c := lead(t, m)
	p := spawn(t, c, "signals", role("signal-init"))
	if e := exit(t, c, p.ID); e.Status != 0 {
		t.Errorf("exited: %+v", e)
	}
	heard := map[uint64]bool{}
	for !heard[64] {
		heard[event(t, c, wire.EventSignal).Value] = true
	}
	for _, n := range []unix.Signal{unix.SIGHUP, unix.SIGSEGV, unix.SIGPIPE, unix.SIGABRT, unix.SIGWINCH, unix.SIGTSTP} {
		if !heard[uint64(n)] {
			t.Errorf("signal %v was not told", n)
		}
	}
	if err := c.Going(deadline(t), 0, 0); err != nil { // what SIGINT and others asked for
		t.Fatal(err)
	}
	if _, err := c.Again(deadline(t), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join("/proc", itoa(m.PID))); err != nil {
		t.Error(err)
	}
}
