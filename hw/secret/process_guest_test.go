//go:build guest

package secret

import "testing"

// Root of a container often may not raise RLIMIT_MEMLOCK; root of a guest may.
func TestAPrivilegedProcessLocksWhatItUsesAndNoMore(t *testing.T) {
	locked, resident := protected(t, "with privileges")
	if locked < 32<<10 {
		t.Errorf("%d KiB are locked, want all address space", locked)
	}
	if resident > 40<<10 {
		t.Errorf("%d KiB are resident: locking populated what was never touched", resident)
	}
}
