package supervise

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestHowAProcessEnded(t *testing.T) {
	for _, row := range []struct {
		e    wire.Exited
		want string
		ok   bool
	}{
		{wire.Exited{Status: 0}, "exit 0", true},
		{wire.Exited{Status: 1 << 8}, "exit 1", false},
		{wire.Exited{Status: 11 << 8}, "exit 11", true}, // named as a success
		{wire.Exited{Status: 11}, "killed by SIGSEGV", false},
		{wire.Exited{Status: 11 | 0x80}, "killed by SIGSEGV (core dumped)", false},
		{wire.Exited{Status: 15}, "killed by SIGTERM", true},
		{wire.Exited{Status: 40}, "killed by signal 40", false},
		{wire.Exited{Status: 127 << 8, Stage: wire.StageExec, Errno: uint32(unix.ENOENT)}, "cannot execute /bin/x: no such file or directory", false},
		{wire.Exited{Status: 127 << 8, Stage: wire.StageUser, Errno: uint32(unix.EPERM)}, "cannot become its user: operation not permitted", false},
	} {
		if got := Ended(&row.e, "/bin/x"); got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
		if got := clean(&Service{SuccessExit: []int{11}}, &row.e); got != row.ok {
			t.Errorf("%s: success %v, want %v", row.want, got, row.ok)
		}
	}
}

func TestWhatFollowsAnEnd(t *testing.T) {
	usual := Service{}.withDefaults().Restart
	with := func(change func(*Restart)) Restart {
		r := usual
		change(&r)
		return r
	}
	for _, row := range []struct {
		name     string
		r        Restart
		ok       bool
		ran      time.Duration
		restarts int
		want     verdict
		count    int
	}{
		{"a failure is followed by a start", usual, false, 0, 0, verdict{true, 100 * time.Millisecond, true}, 1},
		{"the pause doubles", usual, false, 0, 3, verdict{true, 800 * time.Millisecond, true}, 4},
		{"and has an end", usual, false, 0, 1000, verdict{true, 30 * time.Second, true}, 1001},
		{"a long run is forgiven", usual, false, steady, 9, verdict{true, 100 * time.Millisecond, true}, 1},
		{"success is followed by nothing", usual, true, 0, 0, verdict{}, 0},
		{"always means always", with(func(r *Restart) { r.When = Always }), true, 0, 0, verdict{true, 100 * time.Millisecond, false}, 1},
		{"never means never", with(func(r *Restart) { r.When = Never }), false, 0, 0, verdict{false, 0, true}, 0},
		{"a limit is a limit", with(func(r *Restart) { r.Limit = 3 }), false, 0, 3, verdict{false, 0, true}, 3},
	} {
		got, count := row.r.judge(row.ok, row.ran, row.restarts)
		if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(verdict{})); diff != "" || count != row.count {
			t.Errorf("%s: count %d (-want +got):\n%s", row.name, count, diff)
		}
	}
}

func TestLogLines(t *testing.T) {
	l := &log{name: "x", out: newQueue()}
	l.take([]byte("one\ntw"))
	l.take([]byte("o\r\n\x1b[31mred\xff\tend\n" + strings.Repeat("y", maxLine+10) + "\nhalf"))
	want := []string{"one", "two", "?[31mred?\tend", strings.Repeat("y", maxLine), strings.Repeat("y", 10), "half"}
	if diff := cmp.Diff(want, l.last(99)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for range 3 * maxWaits {
		l.take([]byte("more\n"))
	}
	if len(l.last(9999)) > keepLines+1 {
		t.Errorf("%d lines are kept", len(l.last(9999)))
	}
	list := l.out.take()
	if got := list[len(list)-1].line; len(list) != maxWaits+1 || !strings.HasSuffix(got, "lines dropped)") {
		t.Errorf("%d lines wait, the last is %q", len(list), got)
	}
}

func FuzzNotify(f *testing.F) {
	f.Add("READY=1\nSTATUS=serving\nMAINPID=4\n")
	f.Add("ERRNO=2\nBARRIER=1")
	f.Fuzz(func(t *testing.T, s string) {
		n := parseNotify(s)
		if strings.ContainsAny(n.status, "\n\x1b\x00") {
			t.Errorf("status %q is not safe to show", n.status)
		}
	})
}

func FuzzLogLines(f *testing.F) {
	f.Add([]byte("a\nb"), []byte("\r\n\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l := &log{name: "x", out: newQueue()}
		l.take(a)
		l.take(b)
		if len(l.rest) > maxLine {
			t.Errorf("%d bytes wait for the end of their line", len(l.rest))
		}
		for _, s := range l.last(keepLines) {
			if strings.ContainsAny(s, "\n\r\x1b\x00") {
				t.Errorf("line %q is not safe to show", s)
			}
		}
	})
}
