package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// line is one comparison: medians of both sides, and the limit of the ratio.
type line struct {
	name         string
	ours, theirs []time.Duration
	// atLeast is how many times faster we have to be; atMost how many times slower we may be. One of them is set.
	atLeast, atMost float64
}

// show prints the lines as a table, and fails for those beyond their limits.
func show(b *testing.B, lines ...line) {
	b.Helper()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\n\tours\ttheirs\tratio\ttarget\tdistance to the limit\trounds")
	for _, l := range lines {
		if len(l.ours) == 0 || len(l.theirs) == 0 {
			b.Errorf("%s: nothing was measured", l.name)
			continue
		}
		ours, theirs := median(l.ours), median(l.theirs)
		faster := float64(theirs) / float64(ours)
		ratio, target, distance := faster, fmt.Sprintf("at least %.1f times faster", l.atLeast), faster/l.atLeast
		if l.atMost > 0 {
			ratio, target, distance = 1/faster, fmt.Sprintf("at most %.1f times as long", l.atMost), l.atMost*faster
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%+.0f %%\t%d and %d\n", l.name, ours.Round(time.Millisecond), theirs.Round(time.Millisecond),
			ratio, target, (distance-1)*100, len(l.ours), len(l.theirs))
		b.ReportMetric(ratio, strings.ReplaceAll(l.name, " ", "-")+"-ratio")
		if distance < 1 {
			b.Errorf("%s: %.2f is beyond the limit: %s", l.name, ratio, target)
		}
	}
	w.Flush()
	fmt.Println(text.String())
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	if n := len(d); n%2 == 0 {
		return (d[n/2-1] + d[n/2]) / 2
	}
	return d[len(d)/2]
}
