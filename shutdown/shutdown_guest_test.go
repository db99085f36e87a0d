//go:build guest

package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/hw/mount"
	"initd/hw/sysfs/sysfstest"
	"initd/shutdown/stack"
)

// The machine has two blank virtio disks of 64 MiB, 'down-a' and 'down-b', the programs mke2fs, mkswap and losetup, and the modules
// virtio_blk, dm_mod, loop.

// role makes this program play a process that is in the way; it answers on its output when it is.
const role = "SHUTDOWN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	fmt.Println("ready")
	time.Sleep(time.Hour) // until a signal ends it
}

// inTheWay starts a process that has its working directory in dir.
func inTheWay(t *testing.T, how, dir string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"="+how)
	cmd.Dir = dir
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
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// real is the running machine; jobs run in goroutines that are left behind, as the program's run in children.
type real struct{ Live }

func (real) StopServices(context.Context) []string { return nil }

func (real) Do(ctx context.Context, j Job) error {
	if ctx.Err() != nil {
		return errors.New("the time was over")
	}
	done := make(chan error, 1)
	go func() { done <- Do(ctx, j) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("it sleeps in the kernel")
	}
}

func tool(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

const mib = 1 << 20

// linear makes a dm device of size bytes on another one.
func linear(t *testing.T, name, on string, start, size uint64) string {
	t.Helper()
	if err := dm.Create(name, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dm.Remove(context.Background(), name) })
	if err := dm.Load(name, false, devmapper.LinearTable{Length: size, BackendDevice: on, BackendOffset: start}); err != nil {
		t.Fatal(err)
	}
	if err := dm.Resume(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return dm.Node(name)
}

func ext4On(t *testing.T, dev, where string) {
	t.Helper()
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", dev)
	mountAt(t, mount.Spec{Device: dev, Where: where, Type: "ext4"})
}

func mountAt(t *testing.T, s mount.Spec) {
	t.Helper()
	if err := mount.Mount(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Unmount(s.Where, true) })
}

// remains lists the nodes that could go and have not.
func remains(t *testing.T) []string {
	t.Helper()
	s, err := stack.Read("/")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range s.Nodes {
		if n.Keep == "" {
			names = append(names, n.Name)
		}
	}
	return names
}

func runReal(t *testing.T, budget time.Duration) (Result, []Event) {
	t.Helper()
	var mu sync.Mutex
	var events []Event
	done := make(chan Result, 1)
	go func() {
		done <- Run(t.Context(), budget, real{}, func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		})
	}()
	select {
	case r := <-done:
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			t.Logf("%s %s %s (%s) %v", e.Op, e.Object, e.State, e.Reason, e.Took.Round(time.Millisecond))
		}
		return r, events
	case <-time.After(budget + 2*time.Minute):
		t.Fatal("the way down does not end")
	}
	return Result{}, nil
}

// position is the place of the first event that says op of object is done.
func position(events []Event, op, object string) int {
	return slices.IndexFunc(events, func(e Event) bool { return e.Op == op && e.Object == object && e.State == "done" })
}

// By hand on the running machine: a volume with a file system, a bind mount of a folder on it, a tmpfs inside it, a swap file,
// a loop device on a file with a file system of its own, a dm device that stands on another one; one process that goes when it is
// asked to, one that does not. All of it goes, in order, and the stubborn process is named.
func TestWhatSomebodySetUpByHandComesDownInOrder(t *testing.T) {
	vol := linear(t, "vol", sysfstest.Disk(t, "down-a"), 0, 64*mib)
	ext4On(t, vol, "/srv/vol")
	for _, dir := range []string{"/srv/vol/sub", "/srv/vol/tmp"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mountAt(t, mount.Spec{Device: "/srv/vol/sub", Where: "/srv/bind", Type: "bind"})
	mountAt(t, mount.Spec{Where: "/srv/vol/tmp", Type: "tmpfs"})
	if err := os.WriteFile("/srv/vol/image", make([]byte, 8*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := tool(t, "losetup", "-f", "--show", "/srv/vol/image")
	ext4On(t, loop, "/srv/inner")
	if err := os.WriteFile("/srv/vol/swap", make([]byte, 4*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkswap", "-q", "/srv/vol/swap")
	swapon(t, "/srv/vol/swap")
	base := linear(t, "base", sysfstest.Disk(t, "down-b"), 0, 32*mib)
	linear(t, "extra", base, 0, 16*mib)

	polite, stubborn := inTheWay(t, "polite", "/srv/vol/sub"), inTheWay(t, "stubborn", "/srv/inner")

	r, events := runReal(t, time.Minute)
	if len(r.Left) != 0 {
		t.Errorf("left: %v", r.Left)
	}
	if names := remains(t); len(names) != 0 {
		t.Errorf("the machine still has %v", names)
	}
	for _, row := range [][4]string{
		{OpUnmount, "/srv/inner", OpLoop, loop},
		{OpLoop, loop, OpUnmount, "/srv/vol"},
		{OpUnmount, "/srv/vol/tmp", OpUnmount, "/srv/vol"},
		{OpSwap, "/srv/vol/swap", OpUnmount, "/srv/vol"},
		{OpUnmount, "/srv/bind", OpDM, "vol"},
		{OpUnmount, "/srv/vol", OpDM, "vol"},
		{OpDM, "extra", OpDM, "base"},
	} {
		first, second := position(events, row[0], row[1]), position(events, row[2], row[3])
		if first < 0 || second < 0 || first > second {
			t.Errorf("%s of %s is event %d, %s of %s is event %d", row[0], row[1], first, row[2], row[3], second)
		}
	}
	said := func(state, text string) bool {
		return slices.ContainsFunc(events, func(e Event) bool {
			return e.Op == "process" && e.State == state && strings.Contains(e.Object+" "+e.Reason, text)
		})
	}
	if !said("failed", fmt.Sprintf("(pid %d, working directory) used /srv/inner;", stubborn)) {
		t.Errorf("process %d, which ignores SIGTERM, is not named", stubborn)
	}
	if !said("done", fmt.Sprintf("(pid %d, working directory)", polite)) {
		t.Errorf("process %d, which ends when it is asked to, is not told of", polite)
	}
}

func swapon(t *testing.T, path string) {
	t.Helper()
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		t.Fatalf("swapon %s: %v", path, errno)
	}
}

// A volume whose device does not answer any more: its unmount sleeps in the kernel, and so does sync. The budget holds all the
// same, what is independent of it goes, and the dead one is named.
func TestADeadDeviceCostsItsBudgetAndNothingElse(t *testing.T) {
	dead := linear(t, "dead", sysfstest.Disk(t, "down-a"), 0, 64*mib)
	ext4On(t, dead, "/srv/dead")
	alive := linear(t, "alive", sysfstest.Disk(t, "down-b"), 0, 64*mib)
	ext4On(t, alive, "/srv/alive")
	if err := os.WriteFile("/srv/dead/dirty", []byte("not yet on the medium"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dm.Suspend("dead", true); err != nil {
		t.Fatal(err)
	}
	// Only now do the jobs that were left behind end.
	t.Cleanup(func() {
		if err := dm.Resume(context.Background(), "dead"); err != nil {
			t.Error(err)
		}
	})
	budget := 20 * time.Second
	r, events := runReal(t, budget)
	if position(events, OpUnmount, "/srv/alive") < 0 || position(events, OpDM, "alive") < 0 {
		t.Error("what is independent of the dead device did not go")
	}
	var left []string
	for _, l := range r.Left {
		left = append(left, l.Object)
		if l.Reason == "" {
			t.Errorf("%s is left without a reason", l.Object)
		}
	}
	if !slices.Contains(left, "/srv/dead") || slices.Contains(left, "/srv/alive") {
		t.Errorf("left: %v", r.Left)
	}
}
