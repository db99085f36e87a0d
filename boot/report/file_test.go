package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/boot/report"
)

func open(t *testing.T, path string, gen uint64) *report.Writer {
	t.Helper()
	w, err := report.Open(path, gen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func put(t *testing.T, w *report.Writer, text string) {
	t.Helper()
	if err := w.Append(&report.Event{Kind: report.Notice, Text: text}); err != nil {
		t.Fatal(err)
	}
}

// texts is what a file says, as "seq gen text".
func texts(t *testing.T, path string) []string {
	t.Helper()
	list, err := report.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		b, err := json.Marshal([]any{e.Seq, e.Gen, e.Text})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

func TestSuccessorsGoOnWithTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := open(t, path, 1)
	put(t, w, "a")
	put(t, w, "b")
	// The record of a writer that died halfway.
	if _, err := w.File().WriteString(`{"seq":3,"gen":1,"kind":"notice","te`); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, path, 2), "c")
	// A file that is known by its descriptor alone.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	v, err := report.FromFile(f, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	put(t, v, "d")
	want := []string{`[1,1,"a"]`, `[2,1,"b"]`, `[3,2,"c"]`, `[4,3,"d"]`}
	if diff := cmp.Diff(want, texts(t, path+".moved")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWritersDoNotTearEachOthersRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	var wg sync.WaitGroup
	for g := range 4 {
		w := open(t, path, uint64(g+1))
		wg.Go(func() {
			for range 200 {
				if err := w.Append(&report.Event{Kind: report.Notice, Text: strings.Repeat("x", 300)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := report.NewReader(f)
	n := 0
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 800 || r.Skipped() != 0 {
		t.Errorf("%d records and %d broken lines, want 800 and 0", n, r.Skipped())
	}
}

func TestARecordThatIsTooLongLosesItsTextsNotItsMeaning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := open(t, path, 1)
	long := strings.Repeat("long ", report.MaxLine)
	e := report.Event{Kind: report.UnitChanged, Unit: "a", State: report.Failed, Reason: long, Error: &report.Error{Code: "c", Text: long}}
	if err := w.Append(&e); err != nil {
		t.Fatal(err)
	}
	list, err := report.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].State != report.Failed || list[0].Error.Code != "c" || !strings.HasSuffix(list[0].Reason, "...") {
		t.Errorf("got %d records", len(list))
	}
	if len(e.Reason) != len(long) {
		t.Error("the caller's event was changed")
	}
}

func TestReaderKeepsWhatItDoesNotKnow(t *testing.T) {
	in := strings.Join([]string{
		`{"seq":1,"gen":1,"at":5,"kind":"notice","text":"a"}`,
		`no record`,
		``,
		`{"seq":2,"kind":"weather","text":"rain","colour":"blue"}`,
		`{"seq":3}`,
		strings.Repeat("y", 2*report.MaxLine),
		`{"seq":4,"kind":"notice","text":"b"}`,
		`{"seq":5,"kind":"noti`,
	}, "\n")
	r := report.NewReader(strings.NewReader(in))
	var got []string
	for {
		e, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, string(e.Kind)+" "+e.Text)
	}
	if diff := cmp.Diff([]string{"notice a", "weather rain", "notice b"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if r.Skipped() != 3 {
		t.Errorf("%d lines skipped, want 3", r.Skipped())
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	w := open(t, path, 1)
	put(t, w, "before 1")
	put(t, w, "before 2")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var got []string
	enough := errors.New("enough")
	err := report.Follow(ctx, path, func(e report.Event, more bool) error {
		got = append(got, e.Text)
		switch {
		case e.Text == "before 1" && !more, e.Text == "before 2" && more:
			t.Errorf("%s: more %v", e.Text, more)
		case e.Text == "before 2":
			// A record in two pieces counts once, when it is whole.
			if _, err := w.File().WriteString(`{"seq":3,"kind":"notice",`); err != nil {
				t.Error(err)
			}
			if _, err := w.File().WriteString("\"text\":\"in two\"}\n"); err != nil {
				t.Error(err)
			}
		case e.Text == "in two":
			put(t, w, "last")
		case e.Text == "last":
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before 1", "before 2", "in two", "last"}, got); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}
	cancel()
	if err := report.Follow(ctx, path, func(report.Event, bool) error { return nil }); err != nil {
		t.Errorf("after the end of its context: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	for _, name := range []string{"five", "thirty"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".events"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 3000)])
	}
	f.Add([]byte(`{"seq":1,"kind":"unit","unit":"a","state":"done"}` + "\n" + `{"kind":"declare","unit":"a"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := report.ReadAll(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		r := report.Fold(events)
		c := report.NewConsole()
		for _, e := range events {
			for _, l := range c.Add(e) {
				if len(l) > 80 || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("console line %q", l)
				}
			}
			c.Live(e.At)
		}
		for _, f := range []func(io.Writer) error{
			r.JSON,
			func(w io.Writer) error { return r.Status(w, report.Style{}) },
			func(w io.Writer) error { return r.Blame(w, report.Style{}) },
			func(w io.Writer) error { return r.CriticalChain(w, report.Style{}) },
			func(w io.Writer) error { return r.Plot(w, 0) },
		} {
			if err := f(io.Discard); err != nil {
				t.Error(err)
			}
		}
		for _, u := range r.Units {
			if err := r.Why(io.Discard, u.ID, report.Style{}); err != nil {
				t.Error(err)
			}
		}
	})
}
