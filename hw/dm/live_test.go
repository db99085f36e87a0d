package dm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestNamesThatCannotBeNodesAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"tank0": "", "vg-lv_1": "", "": "empty", "..": "taken", "control": "taken", "a/b": "characters", "a b": "characters",
		"ä": "characters", strings.Repeat("a", 128): "128 bytes", strings.Repeat("a", 127): "",
	} {
		if err := ValidName(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}

func TestNodesAreMadeAsUdevMakesThem(t *testing.T) {
	dev := t.TempDir()
	link := filepath.Join(dev, "mapper", "tank0")
	for _, minor := range []uint32{3, 3, 4} { // new, there already, stale
		if err := makeNode(dev, "tank0", minor); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.Readlink(link); err != nil || got != "../dm-4" {
		t.Errorf("got %q, %v", got, err)
	}
	for range 2 {
		if err := removeNode(dev, "tank0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestNothingElseInTheNodesPlaceIsTouched(t *testing.T) {
	dev := t.TempDir()
	if err := os.Mkdir(filepath.Join(dev, "mapper"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dev, "mapper", "file"), filepath.Join(dev, "mapper", "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("/etc/passwd", link)); err != nil {
		t.Fatal(err)
	}
	if err := makeNode(dev, "file", 0); err == nil {
		t.Error("a file was taken for a node")
	}
	for _, name := range []string{"file", "link"} {
		if err := removeNode(dev, name); err == nil {
			t.Errorf("%s was removed", name)
		}
	}
}

// system lays out what the search for udev looks at.
func system(t *testing.T, files ...string) udev {
	t.Helper()
	root := t.TempDir()
	for _, name := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return udev{root}
}

func TestCookiesNeedAUdevThatCompletesThem(t *testing.T) {
	const control, rules = "run/udev/control", "usr/lib/udev/rules.d/" + notifyRules
	for _, row := range []struct {
		name  string
		files []string
		want  bool
	}{
		{"no udev", nil, false},
		{"rules without a udev", []string{rules}, false},
		{"a udev without the rules", []string{control}, false},
		{"both", []string{control, rules}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := system(t, row.files...)
			if got := u.manages(); got != row.want {
				t.Errorf("manages is %v", got)
			}
			err := withCookie(t.Context(), u, func(event uint32) (bool, error) {
				if event&udevPrimarySource == 0 || (event&0xffff != 0) != row.want {
					t.Errorf("event number %#x", event)
				}
				return false, nil // no event: nobody will complete it, and nobody waits
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// complete does to a cookie what `dmsetup udevcomplete` does.
func complete(t *testing.T, event uint32) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(cookieMagic|event&0xffff), 1, 0)
	if errno != 0 {
		t.Errorf("semget: %v", errno)
		return
	}
	lower := sembuf{op: -1}
	if _, _, errno := unix.Syscall(unix.SYS_SEMOP, id, uintptr(unsafe.Pointer(&lower)), 1); errno != 0 {
		t.Errorf("semop: %v", errno)
	}
}

func TestACookieWaitsForItsCompletion(t *testing.T) {
	u := system(t, "run/udev/control", "lib/udev/rules.d/"+notifyRules)
	completed := make(chan struct{})
	err := withCookie(t.Context(), u, func(event uint32) (bool, error) {
		go func() {
			defer close(completed)
			complete(t, event)
		}()
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-completed:
	case <-time.After(time.Minute):
		t.Fatal("it returned without its completion")
	}
}

func TestAWaitForUdevEndsWithItsContext(t *testing.T) {
	u := system(t, "run/udev/control", "lib/udev/rules.d/"+notifyRules)
	ctx, cancel := context.WithCancelCause(t.Context())
	giveUp := errors.New("the budget is spent")
	err := withCookie(ctx, u, func(uint32) (bool, error) {
		cancel(giveUp)
		return true, nil
	})
	if !errors.Is(err, giveUp) || !strings.Contains(err.Error(), "waiting for udev") {
		t.Errorf("got %v", err)
	}
}

func TestErrnosBecomeTheErrorsThatCallersBranchOn(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		unix.EBUSY: ErrBusy, unix.ENXIO: ErrNotFound, unix.ENOENT: ErrNoDriver, unix.ENODEV: ErrNoDriver, unix.EINVAL: unix.EINVAL,
	} {
		err := failed("remove", "tank0", os.NewSyscallError("ioctl", errno))
		if typed, ok := errors.AsType[*Error](err); !errors.Is(err, want) || !ok || typed.Name != "tank0" {
			t.Errorf("%v gives %v", errno, err)
		}
	}
}
