package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func openLedger(t interface {
	Helper()
	Fatal(...any)
}, dir string) *Ledger {
	t.Helper()
	l, err := OpenLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedgerOutlivesItsWriter(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Intent("drive/S1"))
	must(l.Outcome("drive/S1", false))
	must(l.Intent("drive/S1")) // and dies
	must(l.Intent("drive/S2"))
	must(l.Outcome("drive/S2", false))
	must(l.Intent("drive/S2"))
	must(l.Outcome("drive/S2", true))
	must(l.Intent("drive/S3"))
	must(l.Withdraw("drive/S3"))
	must(l.Once("hook/first"))
	must(l.Stop("service/a"))
	must(l.Stop("service/b"))
	must(l.Start("service/b"))
	if origin, err := l.Origin(0); err != nil || origin != 0 {
		t.Fatalf("origin %v, %v", origin, err)
	}
	must(l.SetSettled())
	// Not closed: the writer was killed. A torn record follows.
	f, err := os.OpenFile(filepath.Join(dir, "ledger"), os.O_WRONLY|os.O_APPEND, 0)
	must(err)
	_, err = f.WriteString(`{"op":"intent","key":"drive/S`)
	must(err)
	must(f.Close())

	for range 2 { // the second opening reads what the first one mended
		l = openLedger(t, dir)
		for key, want := range map[string]int{"drive/S1": 2, "drive/S2": 0, "drive/S3": 0, "drive/S": 0} {
			if got := l.Tries(key); got != want {
				t.Errorf("%s: %d failed tries, want %d", key, got, want)
			}
		}
		if !l.Ran("hook/first") || l.Ran("hook/other") || !l.Stopped("service/a") || l.Stopped("service/b") || !l.Settled() {
			t.Error("oneshots, stops or the settled mark are wrong")
		}
		if origin, err := l.Origin(time.Hour); err != nil || origin != 0 {
			t.Errorf("origin %v, %v: want the first one's", origin, err)
		}
		must(l.Once("hook/more"))
		must(l.Close())
	}
}

func TestALedgerOfAnotherVersionIsReadAndNotWritten(t *testing.T) {
	dir := t.TempDir()
	text := `{"schema":"initd.ledger/v9"}` + "\n" + `{"op":"intent","key":"k"}` + "\n" + `{"op":"wonder","key":"k"}` + "\n"
	name := filepath.Join(dir, "ledger")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLedger(t, dir)
	if err := l.Intent("k"); err != nil {
		t.Fatal(err)
	}
	if !l.ReadOnly() || l.Tries("k") != 2 {
		t.Errorf("read only %v, tries %d", l.ReadOnly(), l.Tries("k"))
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != text {
		t.Errorf("the file was changed: %q", after)
	}
}

func TestALongLedgerIsRewrittenWithTheSameMeaning(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	for range 10000 {
		if err := l.Intent("unit/a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLedger(t, dir)
	defer l.Close()
	if n := l.Tries("unit/a"); n != 10000 {
		t.Errorf("%d tries", n)
	}
	b, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 3 {
		t.Errorf("%d lines", n)
	}
}

// TestPropertyLedgerRemembers cuts the file anywhere: a try that began before
// the cut is never forgotten unless its success is there.
func TestPropertyLedgerRemembers(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ledger")
	rapid.Check(t, func(rt *rapid.T) {
		if err := os.RemoveAll(name); err != nil {
			rt.Fatal(err)
		}
		l := openLedger(rt, dir)
		tries, size := []int{0}, []int64{sizeOf(rt, name)}
		for range rapid.IntRange(1, 20).Draw(rt, "records") {
			var err error
			n := tries[len(tries)-1]
			if rapid.Bool().Draw(rt, "intent") {
				err, n = l.Intent("k"), n+1
			} else if rapid.Bool().Draw(rt, "ok") {
				err, n = l.Outcome("k", true), 0
			} else {
				err = l.Outcome("k", false)
			}
			if err != nil {
				rt.Fatal(err)
			}
			tries, size = append(tries, n), append(size, sizeOf(rt, name))
		}
		l.Close()
		cut := rapid.Int64Range(size[0], size[len(size)-1]).Draw(rt, "cut")
		if err := os.Truncate(name, cut); err != nil {
			rt.Fatal(err)
		}
		want := 0
		for i, s := range size {
			if cut >= s-1 { // a record without its newline is whole
				want = tries[i]
			}
		}
		l = openLedger(rt, dir)
		defer l.Close()
		if got := l.Tries("k"); got != want {
			rt.Fatalf("cut at %d: %d tries, want %d", cut, got, want)
		}
	})
}

func sizeOf(rt *rapid.T, name string) int64 {
	i, err := os.Stat(name)
	if err != nil {
		rt.Fatal(err)
	}
	return i.Size()
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"schema":"initd.ledger/v1"}` + "\n" + `{"op":"intent","key":"unit/a"}` + "\n" + `{"op":"outcome","key":"unit/a","ok":true}` + "\n" + `{"op":"ori`))
	f.Add([]byte(`{"schema":"initd.ledger/v1"}` + "\n" + `{"op":"tries","key":"k","n":-5}` + "\n" + `{"op":"withdraw","key":"k"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "ledger"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLedger(t, dir)
		defer l.Close()
		before := l.Tries("k")
		if before < 0 {
			t.Fatalf("%d tries", before)
		}
		if err := l.Intent("k"); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if again := openLedger(t, dir); again.Tries("k") != before+1 && !l.ReadOnly() {
			t.Errorf("%d tries after reopening, want %d", again.Tries("k"), before+1)
		}
	})
}
