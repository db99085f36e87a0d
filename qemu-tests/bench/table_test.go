package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// row is one line of a table.
type row struct {
	name         string
	ours, theirs string // medians, or one value that does not vary
	ratio        string
	target       string
	distance     string
	missed       bool
}

// times are what one side took, a round each.
type times []time.Duration

func (t times) median() time.Duration {
	d := slices.Sorted(slices.Values(t))
	if n := len(d); n%2 == 0 {
		return (d[n/2-1] + d[n/2]) / 2
	}
	return d[len(d)/2]
}

func (t times) String() string {
	m := t.median()
	switch {
	case m < 10*time.Millisecond:
		m = m.Round(10 * time.Microsecond)
	case m < time.Second:
		m = m.Round(time.Millisecond)
	default:
		m = m.Round(10 * time.Millisecond)
	}
	return m.String()
}

// compared is a row without a limit: it tells.
func compared(name string, ours, theirs times) row {
	return row{name: name, ours: ours.String(), theirs: theirs.String(),
		ratio: fmt.Sprintf("%.2f", float64(theirs.median())/float64(ours.median()))}
}

// faster is a row whose ratio, theirs by ours, has to be atLeast.
func faster(name string, ours, theirs times, atLeast float64) row {
	r := compared(name, ours, theirs)
	ratio := float64(theirs.median()) / float64(ours.median())
	r.target = fmt.Sprintf("at least %g times faster", atLeast)
	return r.against(ratio / atLeast)
}

// noSlower is a row whose ratio, ours by theirs, may be atMost.
func noSlower(name string, ours, theirs times, atMost float64) row {
	r := compared(name, ours, theirs)
	ratio := float64(ours.median()) / float64(theirs.median())
	r.ratio, r.target = fmt.Sprintf("%.2f", ratio), fmt.Sprintf("at most %g times as long", atMost)
	return r.against(atMost / ratio)
}

// below is a row whose value may be atMost, both in one unit.
func below(name string, value, atMost float64, unit string) row {
	r := row{name: name, ours: fmt.Sprintf("%.2f %s", value, unit), target: fmt.Sprintf("at most %g %s", atMost, unit)}
	return r.against(atMost / value)
}

// against says how far the row is from its limit: 1 is on it, more is better.
func (r row) against(share float64) row {
	r.distance, r.missed = fmt.Sprintf("%+.0f %%", (share-1)*100), share < 1
	if r.missed {
		r.distance += " MISSED"
	}
	return r
}

// show prints rows as a table, and fails for those beyond their limits. Nothing is printed in the middle of a line that the
// testing package has begun.
func show(t testing.TB, title string, rows ...row) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "\n\n%s\n", title)
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  \tours\ttheirs\tratio\ttarget\tto the limit")
	for _, r := range rows {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", r.name, dash(r.ours), dash(r.theirs), dash(r.ratio), dash(r.target), dash(r.distance))
		if r.missed {
			t.Errorf("%s: %s is beyond the limit: %s", r.name, max(r.ratio, r.ours), r.target)
		}
	}
	w.Flush()
	fmt.Fprintln(os.Stdout, text.String())
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
