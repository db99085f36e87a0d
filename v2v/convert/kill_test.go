package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"initd/tests/tree"
	"initd/v2v/file"
	"initd/v2v/image/imagetest"
)

// TestMain plays the process that is killed: it converts as its environment says.
func TestMain(m *testing.M) {
	if word := os.Getenv("V2V_TEST_CONVERT"); word != "" {
		var req Request
		if err := json.Unmarshal([]byte(word), &req); err != nil {
			panic(err)
		}
		req.Report = func(e Event) {
			if e.Note != "" {
				fmt.Println(e.Note)
			}
		}
		if _, err := Run(context.Background(), req); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestKilledConversionsGoOn(t *testing.T)     { killed(t, 10) }
func TestSoakKilledConversionsGoOn(t *testing.T) { killed(t, 100) }

// killed ends conversions with SIGKILL at random times until each has been through so many kills, and then lets it end: nothing may have the
// target's name before, nothing wrong may have it afterwards, and no file may be left.
func killed(t *testing.T, kills int) {
	const size = 48<<20 + 3*imagetest.S
	d := imagetest.MixedDisk(99, size)
	src := filepath.Join(t.TempDir(), "src")
	d.WriteRaw(t, src)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, format string
		options      []string
	}{
		{"raw", "raw", nil},
		{"qcow2 zlib", "qcow2", []string{"compress=zlib", "cluster_size=4k"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			dst := filepath.Join(dir, "dst")
			// The rate makes a run long enough to be killed in its middle on any machine.
			req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: tc.format, Options: tc.options, Resume: true, Verify: true, Rate: 64 << 20, SaveEvery: 1 << 20}
			g := rand.New(rand.NewPCG(uint64(kills), 5))
			resumed := 0
			for n := range kills {
				out, err := oneLife(t, self, req, time.Duration(20+g.IntN(300))*time.Millisecond)
				if err == nil {
					// It came to its end before the kill: what it made is looked at, and it begins again.
					imagetest.Compare(t, "raw", src, tc.format, dst)
					if err := os.Remove(dst); err != nil {
						t.Fatalf("kill %d: %v", n, err)
					}
				} else if _, err := os.Stat(dst); err == nil {
					imagetest.Compare(t, "raw", src, tc.format, dst)
					if err := os.Remove(dst); err != nil {
						t.Fatal(err)
					}
				}
				if len(out) >= 8 && string(out[:8]) == "going on" {
					resumed++
				}
			}
			out, err := Run(t.Context(), Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: tc.format, Options: tc.options, Resume: true, Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d of %d runs went on where one before had ended; the last one at %d", resumed, kills, out.Resumed)
			if resumed == 0 && out.Resumed == 0 {
				t.Error("no run ever went on: this test checks nothing")
			}
			imagetest.Compare(t, "raw", src, tc.format, dst)
			imagetest.Check(t, tc.format, dst)
			tree.Dir(dir).Has(t, "dst")
		})
	}
}

func oneLife(t *testing.T, self string, req Request, after time.Duration) ([]byte, error) {
	t.Helper()
	word, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "V2V_TEST_CONVERT="+string(word))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && errors.As(err, &exit) && exit.Exited() {
		t.Fatalf("it failed by itself: %s", exit.Stderr)
	}
	return out, err
}

func TestOtherInputBeginsAgain(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	d := testDisk()
	d.WriteRaw(t, src)
	for _, tc := range []struct {
		name   string
		change func(req *Request)
		note   string
	}{
		{"the same goes on", func(*Request) {}, "going on at"},
		{"the source was changed", func(*Request) {
			now := time.Now().Add(time.Hour)
			if err := os.Chtimes(src, now, now); err != nil {
				t.Fatal(err)
			}
		}, "beginning again: the source has changed since"},
		{"other options", func(r *Request) { r.Options = []string{"cluster_size=128k"} }, "beginning again: formats or options are others than before"},
		{"another format", func(r *Request) { r.TargetFormat, r.Options = "raw", nil }, "beginning again: formats or options are others than before"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "qcow2", Options: []string{"cluster_size=64k"}, Resume: true, Workers: 1}
			unfinished(t, req)
			tc.change(&req)
			var notes []string
			req.Report = func(e Event) {
				if e.Note != "" {
					notes = append(notes, e.Note)
				}
			}
			mustRun(t, req)
			if len(notes) != 1 || len(notes[0]) < len(tc.note) || notes[0][:len(tc.note)] != tc.note {
				t.Errorf("noted %q, want %q", notes, tc.note)
			}
			imagetest.Compare(t, "raw", src, req.TargetFormat, dst)
			tree.Dir(dir).Has(t, "dst")
			if err := os.Remove(dst); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// unfinished leaves a conversion with notes behind.
func unfinished(t *testing.T, req Request) {
	t.Helper()
	req.SaveEvery = 1 << 20
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := errors.New("stop")
	req.Report = func(e Event) {
		if e.Offset >= 12<<20 {
			cancel(stop)
		}
	}
	if _, err := Run(ctx, req); !errors.Is(err, stop) {
		t.Fatalf("got %v, want %v", err, stop)
	}
	if _, err := os.Stat(file.StatePath(req.Target)); err != nil {
		t.Fatal(err)
	}
}

func TestATamperedUnfinishedFileIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(dir, "dst")
	testDisk().WriteRaw(t, src)
	req := Request{Source: src, SourceFormat: "raw", Target: dst, TargetFormat: "raw", Resume: true, Workers: 1}
	unfinished(t, req)
	part, err := os.OpenFile(file.PartPath(dst), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteAt(make([]byte, 13<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
	mustRun(t, req)
	imagetest.Compare(t, "raw", src, "raw", dst)
}
