package fault

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAScreenIsReadAsPeopleReadIt(t *testing.T) {
	got := entries([]string{
		"[    3.378036] device-mapper: the kernel's own line",
		"[  4.218] unlock   luks/d5         failed: unlock d5 (/dev/vdf): no key matches:",
		"[  4.218]                          1 key tried on slot 0",
		"[  4.218]                          next: initd keys unlock d5",
		"[  7.585] waiting  luks/d6 4.4 s for uuid/6d6b1c5e-7c0f-4c38-9d31-000000000006:",
		"[  7.585]          no device answers",
		"[  8.000] ready    15 units are up, 2 are not: see initd status",
	})
	want := []entry{
		{text: "unlock   luks/d5         failed: unlock d5 (/dev/vdf): no key matches: 1 key tried on slot 0", next: "initd keys unlock d5"},
		{text: "ready    15 units are up, 2 are not: see initd status"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}
