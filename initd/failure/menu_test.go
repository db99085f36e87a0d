package failure

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/report"
)

// halted is a boot that a wrong key halts, with a mount that waits for it and
// a key server that does not answer.
func halted() *report.Report {
	return &report.Report{
		Name: "store-07", State: report.IsHalted, HaltedBy: "luks/tank0",
		Units: []report.Unit{
			{ID: "key/tank1", State: report.Degraded, Reason: "no server has it", Next: "initd keys unlock tank1",
				LastError: &report.Error{Code: "KMIP-UNREACHABLE", Text: "kms-a (192.0.2.21:5696): connection refused", Object: "store-07/tank1"}},
			{ID: "luks/tank0", State: report.Failed, Next: "initd keys unlock tank0",
				LastError: &report.Error{Code: "LUKS-NO-KEY", Text: "unlock tank0 (/dev/vdb): the key opens none of 2 slots", Object: "/dev/vdb"}},
			{ID: "mount/srv/tank0", State: report.Waiting, Waits: []report.Wait{{AnyOf: []string{"luks/tank0"}}}},
			{ID: "net/eth0", State: report.Done},
			{ID: "service/redis", State: report.Skipped},
			{ID: "ready", State: report.Waiting, Milestone: true},
		},
	}
}

func TestScreen(t *testing.T) {
	want := `---- store-07 is halted by luks/tank0 -----------------------------------------
luks/tank0 failed: unlock tank0 (/dev/vdb): the key opens none of 2 slots
  [LUKS-NO-KEY]
  next: initd keys unlock tank0
key/tank1 degraded: kms-a (192.0.2.21:5696): connection refused
  [KMIP-UNREACHABLE]
  on store-07/tank1
  next: initd keys unlock tank1
-------------------------------------------------------------------------------
`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(Screen(halted()), "\n")); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

// keyboard presses keys, shows nothing to anybody, and is then gone.
type keyboard struct { // the console is always tty0
	keys  string
	shown strings.Builder
}

var errGone = errors.New("nobody presses a key any more")

func (k *keyboard) Show(text string) { k.shown.WriteString(text) }

func (k *keyboard) Next(context.Context) (byte, error) {
	if k.keys == "" {
		return 0, errGone
	}
	key := k.keys[0]
	k.keys = k.keys[1:]
	return key, nil
}

func (k *keyboard) At() string { return "tty0" }

// orders is a machine that notes what it is told.
type orders struct {
	got   []string
	typed int
	shell bool
}

func (o *orders) order(s string) (string, error) {
	o.got = append(o.got, s)
	return "did " + s, nil
}
func (o *orders) Report() (*report.Report, error)   { return halted(), nil }
func (o *orders) Retry(unit string) (string, error) { return o.order("retry " + unit) }
func (o *orders) Skip(unit string) (string, error)  { return o.order("skip " + unit) }
func (o *orders) Keys() []string                    { return []string{"tank0", "tank1"} }
func (o *orders) Down(kind string) (string, error)  { return o.order(kind) }
func (o *orders) MayShell() bool                    { return o.shell }
func (o *orders) Typed()                            { o.typed++ }
func (o *orders) GiveKey(_ context.Context, name string) (string, error) {
	return o.order("key " + name)
}
func (o *orders) Shell(_ context.Context, console string) (string, error) {
	return o.order("shell at " + console)
}
func (o *orders) Save(context.Context) (string, error) { return "", errors.New("the disk is full") }

func TestMenu(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		want       []string
		shows      string
	}{
		{"retry one", "r1", []string{"retry luks/tank0"}, "did retry luks/tank0\n" + Question + ": "},
		{"retry all", "ra", []string{"retry luks/tank0", "retry key/tank1"}, "a all of them"},
		{"retry none", "r\r", nil, "Which: "},
		{"skip one", "s2", []string{"skip key/tank1"}, "did skip key/tank1"},
		{"not all are skipped at once", "sa", nil, "Which: "},
		{"a number that is not offered", "s7", nil, "Which: "},
		{"give a key", "k2", []string{"key tank1"}, "A key for:\n  1 tank0\n  2 tank1\n"},
		{"what cannot be saved is said", "b", nil, "the disk is full\n" + Question + ": "},
		{"power off", "po", []string{"poweroff"}, "did poweroff"},
		{"reboot", "pr", []string{"reboot"}, "did reboot"},
		{"neither", "p\rr\r", nil, "Which: "},
		{"any other key shows the keys", "x", nil, "x\n" + keys + Question},
		{"no shell", "!", nil, "The appliance file allows no shell.\n" + Question + ": "},
		{"Enter shows the screen again", "\r", nil, "LUKS-NO-KEY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, m := &keyboard{keys: tt.keys}, &orders{}
			if err := Menu(t.Context(), k, m); !errors.Is(err, errGone) {
				t.Fatalf("got %v, want %v", err, errGone)
			}
			if diff := cmp.Diff(tt.want, m.got); diff != "" {
				t.Errorf("orders (-want +got):\n%s", diff)
			}
			if !strings.Contains(k.shown.String(), tt.shows) {
				t.Errorf("it does not show %q; it shows:\n%s", tt.shows, k.shown.String())
			}
			if m.typed != len(tt.keys) {
				t.Errorf("%d keys are told of, want %d", m.typed, len(tt.keys))
			}
			for _, line := range strings.Split(k.shown.String(), "\n") {
				if len(line) > 80 {
					t.Errorf("a line is longer than 80 columns: %q", line)
				}
			}
		})
	}
}

func TestAShellIsOfferedWhereTheFileAllowsOne(t *testing.T) {
	k, m := &keyboard{keys: "!"}, &orders{shell: true}
	if err := Menu(t.Context(), k, m); !errors.Is(err, errGone) {
		t.Fatalf("got %v, want %v", err, errGone)
	}
	if diff := cmp.Diff([]string{"shell at tty0"}, m.got); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	if !strings.Contains(k.shown.String(), keys+"! a shell\n") {
		t.Errorf("it is not offered:\n%s", k.shown.String())
	}
}
