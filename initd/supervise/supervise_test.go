package supervise

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/client"
	"initd/initd/pid1/pid1test"
	"initd/initd/pid1/wire"
)

// machine is what a test inside has.
type machine struct {
	*Manager
	init  *client.Client
	lines *lines
}

// inside runs the body as an orchestrator of a real init, in a pid namespace.
// A body that kills itself is run again by the next generation.
func inside(t *testing.T, generations int, body func(ctx context.Context, t *testing.T, m *machine)) {
	t.Helper()
	if !pid1test.Inside() {
		m := pid1test.Boot(t, pid1test.Options{})
		for n := range generations {
			out, ok := m.Next().RunTest(t.Name())
			if n == generations-1 && !ok {
				t.Errorf("inside:\n%s", out)
			} else if n < generations-1 && !strings.Contains(out, "no result") {
				t.Errorf("generation %d should have died:\n%s", n+1, out)
			}
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pid1test.Guard)
	defer cancel()
	c, err := client.Open(ctx, 3*pid1test.Guard)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{init: c, lines: &lines{}}
	m.Manager = New(c, Options{Sink: m.lines})
	if err := m.Adopt(ctx); err != nil {
		t.Fatal(err)
	}
	go m.Run(ctx)
	body(ctx, t, m)
}

// lines is a Sink.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Line(service, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, service+": "+line)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.text {
		if t == s {
			return true
		}
	}
	return false
}

func role(name string, args ...string) Service {
	return Service{Name: name, Command: append([]string{pid1test.Self}, args...)}
}

func create(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// until waits for ok; what it looks at has no event for the test.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(pid1test.Guard); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: it does not come", what)
		}
	}
}

func TestAServiceStartsLogsAndStops(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		s := role("daemon", "daemon")
		if err := m.Start(ctx, s, nil); err != nil {
			t.Fatal(err)
		}
		if found, why := m.Check(s); found != Same {
			t.Errorf("check: %s %s", found, why)
		}
		other := s
		other.Env = map[string]string{"A": "b"}
		if found, _ := m.Check(other); found != Different {
			t.Errorf("check of another definition: %s", found)
		}
		if err := m.Start(ctx, other, nil); !errors.Is(err, ErrDifferent) {
			t.Errorf("start of another definition: %v", err)
		}
		until(t, "its line", func() bool { return m.lines.has("daemon: up") })
		if err := m.Stop(ctx, "daemon"); err != nil {
			t.Fatal(err)
		}
		if st := m.Status("daemon"); st.Phase != Down || st.Reason != "exit 0" || st.PID != 0 {
			t.Errorf("status: %+v", st)
		}
		if l := m.Logs("daemon", 2); len(l) != 2 || l[0] != "bye" {
			t.Errorf("logs: %q", l)
		}
		ps, ds, err := m.init.List(ctx)
		if err != nil || len(ps) != 0 || len(ds) != 0 {
			t.Errorf("init keeps %v %v, %v", ps, ds, err)
		}
		if err := m.Start(ctx, other, nil); err != nil {
			t.Errorf("start again: %v", err)
		}
	})
}

func TestAServiceRunsAsItsUser(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		s := role("env", "env")
		s.User, s.Group, s.Env = "redis", "extra", map[string]string{"COLOUR": "blue"}
		if err := m.Start(ctx, s, nil); err != nil {
			t.Fatal(err)
		}
		until(t, "its line", func() bool { return m.lines.has("env: 101 200 / blue") })
		s = role("nobody", "env")
		s.User = "mallory"
		if err := m.Start(ctx, s, nil); err == nil || !strings.Contains(err.Error(), "start nobody: user mallory: user: unknown user") {
			t.Errorf("an unknown user: %v", err)
		}
	})
}

func TestReadinessIsAwaitedWithAReason(t *testing.T) {
	self := pid1test.Self
	rows := []struct {
		name    string
		service func(file string) Service
		reasons []string
	}{
		{"exec", func(f string) Service {
			s := role("exec", "daemon")
			s.Ready.Exec = []string{self, "there", f}
			return s
		}, []string{"exec: waiting for exec " + self + " there /tmp/exec: exit 1: Could not connect"}},
		{"tcp", func(f string) Service {
			s := role("tcp", "listen", f, "127.0.0.1:4711")
			s.Ready.TCP = "127.0.0.1:4711"
			return s
		}, []string{"tcp: waiting for tcp 127.0.0.1:4711: connection refused"}},
		{"notify", func(f string) Service {
			s := role("notify", "notify", f)
			s.Ready.Notify = true
			return s
		}, []string{"notify: waiting for READY=1: warming up"}},
		{"file", func(f string) Service {
			s := role("file", "touch", f, "/run/deep/down")
			s.Ready.File = "/run/deep/down/pid"
			return s
		}, []string{"file: waiting for file /run/deep/down/pid"}},
		{"file-on-a-disk", func(f string) Service {
			s := role("file-on-a-disk", "touch", f, "/tmp/disk")
			s.Ready.File = "/tmp/disk/pid"
			return s
		}, []string{"file-on-a-disk: waiting for file /tmp/disk/pid"}},
	}
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		loopbackUp(t)
		for _, row := range rows {
			trigger := "/tmp/" + row.name
			want := row.reasons
			started := false
			err := m.Start(ctx, row.service(trigger), func(why string) {
				if len(want) > 0 && strings.HasPrefix(why, want[0]) {
					want = want[1:]
				}
				if len(want) == 0 && !started {
					started = true
					create(t, trigger)
				}
			})
			if err != nil || len(want) > 0 {
				t.Errorf("%s: %v; reasons that did not come: %q", row.name, err, want)
			}
		}
		if st := m.Status("notify"); st.Text != "serving" {
			t.Errorf("status text: %+v", st)
		}
	})
}

func TestAnotherServiceCannotSayReady(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		s := role("victim", "notify", "/tmp/never")
		s.Ready.Notify = true
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- m.Start(short, s, nil) }()
		until(t, "the victim's status", func() bool { return m.Status("victim").Text == "warming up" })
		if err := m.Start(ctx, role("mallory", "impostor", "/run/initd/notify/victim"), nil); err != nil {
			t.Fatal(err)
		}
		until(t, "the refusal", func() bool {
			return strings.Contains(strings.Join(m.Logs("victim", 9), "\n"), "which is not of this service, was ignored")
		})
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for READY=1: warming up") {
			t.Errorf("start: %v", err)
		}
	})
}

func TestFailuresAreSaidInWords(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		never := func(s Service) Service { s.Restart.When = Never; return s }
		notify := func(s Service) Service { s.Ready.Notify = true; return s }
		missing := Service{Name: "missing", Command: []string{"/usr/bin/none"}}
		cond := role("cond", "daemon")
		cond.Conditions = []string{"/etc/passwd", "/etc/cond.conf"}
		limited := notify(role("limited", "exit", "2"))
		limited.Restart = Restart{First: time.Millisecond, Limit: 2}
		for _, row := range []struct {
			s    Service
			want string
		}{
			{never(notify(role("early", "exit", "5"))), "start early: exit 5 before it was ready: leaving"},
			{never(notify(role("good", "exit", "0"))), "start good: exit 0 before it was ready"},
			{never(notify(role("killed", "abort"))), "start killed: killed by SIGKILL before it was ready"},
			{never(missing), "start missing: cannot execute /usr/bin/none: no such file or directory"},
			{limited, "start limited: exit 2 before it was ready: leaving"},
			{cond, "start cond: skipped: /etc/cond.conf is not there"},
			{Service{Name: "a/b", Command: []string{"/x"}}, `service "a/b": want a name of at most 40 bytes without a slash`},
		} {
			if err := m.Start(ctx, row.s, nil); err == nil || err.Error() != row.want {
				t.Errorf("%s: got %v, want %s", row.s.Name, err, row.want)
			}
		}
		if st := m.Status("limited"); st.Phase != Failed || st.Restarts != 2 {
			t.Errorf("status: %+v", st)
		}
		if st := m.Status("cond"); st.Phase != Skipped {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestAServiceThatFailsIsStartedAgain(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		s := role("flaky", "flaky", "/tmp/count", "2")
		s.Ready.Exec = []string{"initd", "there", "/tmp/go"}
		s.Restart.First = 10 * time.Millisecond
		s.Env = map[string]string{"PATH": "/usr/bin"}
		var reasons []string
		// argv[0] of the probe has to be the path for the test binary to play it.
		s.Ready.Exec[0] = pid1test.Self
		err := m.Start(ctx, s, func(why string) {
			reasons = append(reasons, why)
			if strings.Contains(why, "Could not connect") {
				_ = os.WriteFile("/tmp/go", nil, 0o600)
			}
		})
		if err != nil {
			t.Fatalf("%v: %q", err, reasons)
		}
		all := strings.Join(reasons, "\n")
		if !strings.Contains(all, "flaky: exit 3 before it was ready: no luck; starts again in ") {
			t.Errorf("reasons: %s", all)
		}
		if st := m.Status("flaky"); st.Restarts != 2 || st.Phase != Running {
			t.Errorf("status: %+v", st)
		}
		if err := unix.Kill(m.Status("flaky").PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "the third restart", func() bool { s := m.Status("flaky"); return s.Restarts == 3 && s.Phase == Running })
	})
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		s := role("stubborn", "stubborn")
		s.Stop.Timeout = 100 * time.Millisecond
		if err := m.Start(ctx, s, nil); err != nil {
			t.Fatal(err)
		}
		until(t, "its line", func() bool { return m.lines.has("stubborn: deaf") })
		if err := m.Stop(ctx, "stubborn"); err != nil {
			t.Fatal(err)
		}
		if st := m.Status("stubborn"); st.Phase != Down || st.Reason != "killed by SIGKILL" {
			t.Errorf("status: %+v", st)
		}
		until(t, "its child to end", func() bool {
			_, err := os.Stat("/sys/fs/cgroup/initd/services/stubborn")
			b, _ := os.ReadFile("/sys/fs/cgroup/initd/services/stubborn/cgroup.procs")
			return os.IsNotExist(err) || len(b) == 0
		})
	})
}

func TestServicesLiveThroughTheDeathOfTheOrchestrator(t *testing.T) {
	inside(t, 2, func(ctx context.Context, t *testing.T, m *machine) {
		tick := role("tick", "tick")
		dies := role("dies", "daemon")
		dies.Restart.First = time.Millisecond
		waits := role("waits", "notify", "/tmp/ready")
		waits.Ready.Notify = true
		probed := role("probed", "daemon")
		probed.Ready.Exec = []string{pid1test.Self, "there", "/tmp/never"}
		if m.init.Hello().Generation == 1 {
			for _, s := range []Service{tick, dies} {
				if err := m.Start(ctx, s, nil); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range []Service{waits, probed} {
				go func() { _ = m.Start(ctx, s, nil) }()
			}
			until(t, "all to run", func() bool {
				return m.Status("waits").Text == "warming up" && strings.Contains(m.Status("probed").Reason, "exit 1")
			})
			for _, name := range []string{"tick", "dies", "waits"} {
				create(t, "/tmp/pid-"+name+"-"+itoa(m.Status(name).PID))
			}
			// It ends after this process did, and before the next adopts.
			if err := unix.Kill(m.Status("dies").PID, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			_ = unix.Kill(m.Status("dies").PID, unix.SIGKILL)
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
		for _, name := range []string{"tick", "waits"} {
			st := m.Status(name)
			if _, err := os.Stat("/tmp/pid-" + name + "-" + itoa(st.PID)); err != nil || !st.Adopted {
				t.Errorf("%s is another process: %+v, %v", name, st, err)
			}
		}
		if found, why := m.Check(tick); found != Same {
			t.Errorf("tick: %s %s", found, why)
		}
		if found, why := m.Check(waits); found != Partial {
			t.Errorf("waits: %s %s", found, why)
		}
		create(t, "/tmp/ready")
		if err := m.Start(ctx, waits, nil); err != nil {
			t.Errorf("waits: %v", err)
		}
		until(t, "lines after the adoption", func() bool {
			l := m.Logs("tick", 1)
			return len(l) == 1 && strings.HasPrefix(l[0], "tick ")
		})
		until(t, "the dead one to be started again", func() bool {
			st := m.Status("dies")
			return st.Phase == Running && st.Restarts == 1
		})
		if err := m.Stop(ctx, "tick"); err != nil {
			t.Errorf("stop an adopted one: %v", err)
		}
		until(t, "the old probe to be forgotten", func() bool {
			ps, _, err := m.init.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			old := 0
			for _, p := range ps {
				if strings.HasPrefix(p.Name, "probed.ready/") && p.State == wire.StateExited {
					old++
				}
			}
			return old == 0
		})
	})
}

func TestStopAllStopsInWaves(t *testing.T) {
	inside(t, 1, func(ctx context.Context, t *testing.T, m *machine) {
		for _, n := range []string{"web", "db", "cache"} {
			if err := m.Start(ctx, role(n, "daemon"), nil); err != nil {
				t.Fatal(err)
			}
			// SIGTERM before the handler is there would end it differently.
			until(t, "its line", func() bool { return m.lines.has(n + ": up") })
		}
		if errs := m.StopAll(ctx, [][]string{{"web"}, {"db", "cache"}, {"unknown"}}); len(errs) > 0 {
			t.Error(errs)
		}
		m.lines.mu.Lock()
		defer m.lines.mu.Unlock()
		web, db := -1, -1
		for i, l := range m.lines.text {
			switch l {
			case "web: bye":
				web = i
			case "db: bye":
				db = i
			}
		}
		if web < 0 || db < web {
			t.Errorf("order: %q", m.lines.text)
		}
	})
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}
