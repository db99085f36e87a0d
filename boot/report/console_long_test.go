package report

import (
	"strings"
	"testing"
	"time"
)

// A unit with a long name leaves no room beside it: its text begins below, and none of it is lost for that.
func TestTheTroubleOfALongName(t *testing.T) {
	const (
		text = "degraded: log in to iqn.2026-01.net.example:disks at 192.0.2.50:3260: the target does not accept our response (status 0201)"
		next = "initd retry iscsi-path/disks-of-the-first-shelf/192.0.2.50:3260"
	)
	for _, name := range []string{"net/a", "key/client-missing", "iscsi-path/disks/192.0.2.50:3260", "iscsi-path/disks-of-the-first-shelf/192.0.2.50:3260"} {
		got := trouble(12345*time.Millisecond, "fabrics", name+" ", text, next)
		var whole []string
		for _, l := range got[:len(got)-1] {
			if len(l) > consoleWidth {
				t.Errorf("%s: %d columns: %s", name, len(l), l)
			}
			whole = append(whole, strings.TrimSpace(l[min(19, len(l)):]))
		}
		if all := strings.Join(whole, " "); all != name+" "+text {
			t.Errorf("%s: the lines say %q", name, all)
		}
		if last := got[len(got)-1]; !strings.HasSuffix(last, "next: "+next) {
			t.Errorf("%s: the last line is %q", name, last)
		}
	}
}
