package secret

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"initd/tests/role"
)

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestMain(m *testing.M) { role.Main(m, play) }

func play(name string) error {
	if name == "without privileges" {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}); err != nil {
			return err
		}
		if err := unix.Setuid(65534); err != nil {
			return err
		}
		if err := ProtectProcess(); !errors.Is(err, ErrNotLocked) {
			return fmt.Errorf("got %v, want ErrNotLocked", err)
		}
	} else if err := ProtectProcess(); err != nil {
		return err
	}
	large := make([]byte, 32<<20) // must still be possible
	large[len(large)-1] = 1
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return err
	}
	if dumpable != 0 || core.Max != 0 || core.Cur != 0 {
		return fmt.Errorf("dumpable %d, core limit %+v", dumpable, core)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if strings.HasPrefix(line, "VmLck:") || strings.HasPrefix(line, "VmRSS:") {
			fmt.Println(line)
		}
	}
	return nil
}

// protected runs a role and returns how many KiB it had locked and resident.
func protected(t *testing.T, name string) (locked, resident int) {
	t.Helper()
	cmd := role.Command(t.Context(), name)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		_, _ = fmt.Sscanf(line, "VmLck: %d kB", &locked)
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &resident)
	}
	return locked, resident
}

func TestWithoutPrivilegesMemoryIsNotLockedAndNothingBreaks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test needs root: it drops to another user")
	}
	if locked, _ := protected(t, "without privileges"); locked != 0 {
		t.Errorf("%d KiB are locked", locked)
	}
}
