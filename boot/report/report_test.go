package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/report"
	"initd/tests/golden"
)

func text(t *testing.T, f func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGoldens(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			events := load(t, s.name)
			r := report.Fold(events)
			st := report.Style{}
			golden.Compare(t, "testdata/"+s.name+".status.txt", text(t, func(w io.Writer) error { return r.Status(w, st) }))
			golden.Compare(t, "testdata/"+s.name+".blame.txt", text(t, func(w io.Writer) error { return r.Blame(w, st) }))
			golden.Compare(t, "testdata/"+s.name+".chain.txt", text(t, func(w io.Writer) error { return r.CriticalChain(w, st) }))
			golden.Compare(t, "testdata/"+s.name+".svg", text(t, func(w io.Writer) error { return r.Plot(w, 0) }))
			var lines []string
			c := report.NewConsole()
			for _, e := range events {
				lines = append(lines, c.Add(e)...)
			}
			golden.Compare(t, "testdata/"+s.name+".console.txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestTextFitsItsWidth(t *testing.T) {
	for _, s := range scenes {
		events := load(t, s.name)
		r := report.Fold(events)
		var all []string
		for _, w := range []int{60, 80, 132} {
			st := report.Style{Width: w, All: true}
			for _, f := range []func(io.Writer) error{
				func(b io.Writer) error { return r.Status(b, st) },
				func(b io.Writer) error { return r.Blame(b, st) },
				func(b io.Writer) error { return r.CriticalChain(b, st) },
				func(b io.Writer) error { return r.Why(b, r.Units[len(r.Units)-1].ID, st) },
			} {
				for l := range strings.Lines(text(t, f)) {
					if len(l)-1 > w {
						t.Errorf("%s: %d columns, want at most %d: %q", s.name, len(l)-1, w, l)
					}
				}
			}
		}
		c := report.NewConsole()
		for _, e := range events {
			all = append(all, c.Add(e)...)
			all = append(all, c.Live(e.At)...)
		}
		for _, l := range all {
			if len(l) > 80 || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s: console line of %d columns: %q", s.name, len(l), l)
			}
		}
	}
}

func TestWhy(t *testing.T) {
	events := load(t, "thirty")
	cut := func(at time.Duration) *report.Report {
		var part []report.Event
		for _, e := range events {
			if e.At <= at {
				part = append(part, e)
			}
		}
		return report.Fold(part)
	}
	for _, tt := range []struct {
		name, unit string
		at         time.Duration
	}{
		{"a service whose disk never came", "service/archive", time.Hour},
		{"a volume whose key was refused and then accepted", "luks/tank3", time.Hour},
		{"a volume between attempts", "luks/tank3", 8 * time.Second},
		{"a key that waits for any of two servers", "key/tank0", 3500 * time.Millisecond},
		{"ready while it waits", "ready", 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := cut(tt.at)
			golden.Compare(t, "testdata/"+"why-"+strings.ReplaceAll(tt.name, " ", "-")+".txt", text(t, func(w io.Writer) error { return r.Why(w, tt.unit, report.Style{}) }))
		})
	}
	err := cut(time.Hour).Why(io.Discard, "tank5", report.Style{})
	if want := "why tank5: there is no such unit; there is key/tank5, luks/tank5, mount/srv/tank5"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReportIsAFunctionOfItsEvents(t *testing.T) {
	for _, s := range scenes {
		events := load(t, s.name)
		a := text(t, report.Fold(events).JSON)
		f := report.NewFolder()
		for i, e := range events {
			f.Add(e)
			if i%50 == 0 {
				f.Report() // looking changes nothing
			}
		}
		if diff := cmp.Diff(a, text(t, f.Report().JSON)); diff != "" {
			t.Errorf("%s: two folds differ:\n%s", s.name, diff)
		}
		var back report.Report
		if err := json.Unmarshal([]byte(a), &back); err != nil {
			t.Fatal(err)
		}
		if back.Schema != "initd.report/v1" {
			t.Errorf("schema %q", back.Schema)
		}
		if diff := cmp.Diff(a, text(t, back.JSON)); diff != "" {
			t.Errorf("%s: JSON does not survive a round trip:\n%s", s.name, diff)
		}
	}
}

func TestUnknownKindsChangeNothing(t *testing.T) {
	events := load(t, "five")
	want := text(t, report.Fold(events).JSON)
	var more []report.Event
	for _, e := range events {
		more = append(more, e, report.Event{Kind: "weather", Unit: e.Unit, Text: "rain", At: e.At})
	}
	if diff := cmp.Diff(want, text(t, report.Fold(more).JSON)); diff != "" {
		t.Errorf("report (-without +with unknown kinds):\n%s", diff)
	}
}

func TestTheReportTellsWhatWasWaitedForByReason(t *testing.T) {
	r := report.Fold(load(t, "five"))
	u := r.Unit("key/tank0")
	got := map[string]time.Duration{}
	for _, w := range u.WaitedFor {
		got[w.For+" "+w.Reason] = w.Time
	}
	want := map[string]time.Duration{
		"endpoint/192.0.2.21:5696 ":                    100 * time.Millisecond,
		"endpoint/192.0.2.21:5696 storage: no carrier": 2500 * time.Millisecond,
		" kms-a: connection refused":                   17500 * time.Millisecond,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waited for (-want +got):\n%s", diff)
	}
	var path []string
	for _, l := range r.Critical {
		path = append(path, l.Unit)
	}
	if diff := cmp.Diff([]string{"", "key/tank0", "luks/tank0", "mount/srv/tank0", "service/redis", "ready"}, path); diff != "" {
		t.Errorf("critical path (-want +got):\n%s", diff)
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	for _, s := range scenes {
		d := xml.NewDecoder(strings.NewReader(text(t, func(w io.Writer) error { return report.Fold(load(t, s.name)).Plot(w, 0) })))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
	}
}

func TestRenderersTakeAnEmptyReport(t *testing.T) {
	r := report.Fold(nil)
	for _, f := range []func(io.Writer) error{
		r.JSON,
		func(w io.Writer) error { return r.Status(w, report.Style{}) },
		func(w io.Writer) error { return r.Blame(w, report.Style{}) },
		func(w io.Writer) error { return r.CriticalChain(w, report.Style{}) },
		func(w io.Writer) error { return r.Plot(w, 0) },
	} {
		if text(t, f) == "" {
			t.Error("nothing written")
		}
	}
}

func TestAUnitThatLeavesTheFileIsAnOrphan(t *testing.T) {
	declare := func(id string) report.Event {
		return report.Event{Kind: report.UnitDeclared, Unit: id, Info: &report.UnitInfo{Kind: "x", Stage: "storage"}}
	}
	r := report.Fold([]report.Event{
		{Kind: report.PlanLoaded, Plan: &report.PlanInfo{Name: "a"}}, declare("up"), declare("down"),
		{Kind: report.UnitChanged, Unit: "up", State: report.Done},
		{Kind: report.PlanLoaded, Plan: &report.PlanInfo{Name: "a"}}, declare("new"),
	})
	got := map[string]report.State{}
	for _, u := range r.Units {
		got[u.ID] = u.State
	}
	if diff := cmp.Diff(map[string]report.State{"up": report.Orphan, "new": report.Waiting}, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestTheLiveLineSaysWhatHoldsTheBootUp(t *testing.T) {
	live := func(scene string, at time.Duration) []string {
		c := report.NewConsole()
		for _, e := range load(t, scene) {
			if e.At <= at {
				c.Add(e)
			}
		}
		return c.Live(at)
	}
	for _, tt := range []struct {
		name, scene string
		at          time.Duration
		want        []string
	}{
		{"what the world lacks", "five", 4 * time.Second, []string{
			"[  4.000] waiting  key/tank0 2.1 s for endpoint/192.0.2.21:5696: storage: no",
			"[  4.000]          carrier"}},
		{"what a running attempt waits for", "five", 14500 * time.Millisecond, []string{
			"[ 14.500] waiting  key/tank0 10.0 s: kms-a: connection refused"}},
		{"several, the most telling first", "thirty", 9 * time.Second, []string{
			"[  9.000] waiting  service/tomcat 2.3 s: 127.0.0.1:8080: connection refused (+2)"}},
		{"nothing once the boot has settled", "five", 30 * time.Second, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, live(tt.scene, tt.at)); diff != "" {
				t.Errorf("live lines (-want +got):\n%s", diff)
			}
		})
	}
}
