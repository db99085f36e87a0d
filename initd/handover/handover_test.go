package handover

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
)

func TestMain(m *testing.M) {
	if run := os.Getenv("HANDOVER_LEADER"); run != "" { // plays the orchestrator before
		if err := Lead(context.Background(), run); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("leads\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	run := t.TempDir()
	if s, err := Load(run); s != nil || err != nil {
		t.Fatalf("before anything was handed over: %v, %v", s, err)
	}
	want := State{Generation: 3, Root: "/sysroot", Init: "/sbin/init", Config: "/etc/initd", Plan: &plan.Plan{Schema: plan.Schema, Name: "store"}}
	if err := Save(run, want); err != nil {
		t.Fatal(err)
	}
	want.Schema = Schema
	got, err := Load(run)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("-saved +loaded:\n%s", diff)
	}
}

func TestAStateThatIsNotOursIsNotBelieved(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"another version":         {`{"schema":"initd.handover/v2","plan":{"schema":"` + plan.Schema + `"}}`, `of another version ("initd.handover/v2")`},
		"a plan of another":       {`{"schema":"` + Schema + `","plan":{"schema":"x"}}`, "of another version"},
		"no plan":                 {`{"schema":"` + Schema + `"}`, "of another version"},
		"torn":                    {`{"schema":"`, "unexpected end of JSON input"},
		"nothing but white space": {"\n", "unexpected end of JSON input"},
	} {
		run := t.TempDir()
		if err := os.WriteFile(stateFile(run), []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Load(run); s != nil || err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, %v; want an error with %q", name, s, err, row.want)
		}
	}
}

// The one that waits leads as soon as the one that leads is killed, and not before.
func TestTheNextLeadsWhenTheLeaderIsDead(t *testing.T) {
	run := t.TempDir()
	leader := exec.Command("/proc/self/exe")
	leader.Env = append(os.Environ(), "HANDOVER_LEADER="+run)
	out, err := leader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	defer leader.Process.Kill() //nolint:errcheck // it is dead already if all went well
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil {
		t.Fatal(err)
	}
	ended := errors.New("the test has seen enough")
	early, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	if err := Lead(early, run); !errors.Is(err, ended) {
		t.Fatalf("beside a leader: %v, want to wait until the context ends", err)
	}
	led := make(chan error, 1)
	go func() { led <- Lead(t.Context(), run) }()
	if err := leader.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = leader.Wait()
	// The call that was given up may be first, and gives the lock back.
	select {
	case err := <-led:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the lock of a dead leader is not free")
	}
}

func TestTheNewRootsSystemdIsTold(t *testing.T) {
	runtime := t.TempDir()
	for range 2 { // a hand-over that failed is tried again
		if err := Prepare(runtime, []Link{{Name: "room", Kernel: "eth0"}}, true); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, name := range []string{"systemd/network/05-initd-room.network", "systemd/network/05-initd-room.link", "initramfs/fsck-root", "systemd/system/sysinit.target.wants/initd.service"} {
		b, err := os.ReadFile(filepath.Join(runtime, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(b)
	}
	want := map[string]string{
		"systemd/network/05-initd-room.network":             "# initd keeps this link: its addresses and leases are under this root.\n[Match]\nName=eth0\n\n[Link]\nUnmanaged=yes\n",
		"systemd/network/05-initd-room.link":                "[Match]\nOriginalName=eth0\n\n[Link]\nNamePolicy=\n",
		"initramfs/fsck-root":                               "",
		"systemd/system/sysinit.target.wants/initd.service": Unit,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
