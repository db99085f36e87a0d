package deploy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A worker may die when the disk is done and the queue does not know it yet.
func TestAJobThatHadEndedIsNotDoneAgain(t *testing.T) {
	raw, qcow2 := templateFile(t, 8, 7)
	device, _ := loop(t, 16)
	req := played{Device: device, Image: qcow2, State: t.TempDir()}.request()
	req.Job = "j1"
	// A partition table's signature, so that the disk is known to hold something.
	mbr(t, raw, qcow2)
	began := time.Now()
	first, err := Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		job     string
		since   time.Time
		refused bool
	}{
		{"another attempt at it", "j1", began, false},
		{"another job", "j2", began, true},
		{"a later job of the same name", "j1", time.Now(), true},
		{"the first attempt at a job of the same name", "j1", time.Time{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req.Job, req.Since = tc.job, tc.since
			out, err := Run(t.Context(), req)
			if e, ok := errors.AsType[*Error](err); tc.refused {
				if !ok || e.Kind != Content {
					t.Errorf("got %v, want %s", err, Content)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first.Record, out.Record); diff != "" {
				t.Errorf("the record (-first +second):\n%s", diff)
			}
			wantDisk(t, device, raw)
		})
	}
}

// A worker may die for good, and one on a machine that has never seen the disk takes its job over.
func TestAJobGoesOnOnAnotherMachine(t *testing.T) {
	raw, qcow2 := templateFile(t, 24, 9)
	mbr(t, raw, qcow2) // so that what was begun is known to be something
	other := filepath.Join(t.TempDir(), "other.raw")
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", raw, other)
	alike := filepath.Join(t.TempDir(), "alike.raw") // as a later version of a template is
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", raw, alike)
	if f, err := os.OpenFile(alike, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	} else if _, err := f.WriteAt(bytes.Repeat([]byte("y"), 4096), 8192); err != nil {
		t.Fatal(err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	died := errors.New("died")
	overwrite := func(t *testing.T, device string) {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 16<<20), 4096); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		marks   int // after how many the first worker dies
		job     string
		between func(t *testing.T, device, state string)
		resumes bool
		refused bool
	}{
		{name: "with marks it goes on there", marks: 3, job: "j1", resumes: true},
		{name: "without a mark it begins again, and the disk is its own", job: "j1"},
		{name: "another job has no part in it", marks: 3, job: "j2", refused: true},
		{name: "what somebody wrote over without a record here is left alone", marks: 3, job: "j1", refused: true, between: func(t *testing.T, device, _ string) { overwrite(t, device) }},
		{name: "a disk that became somebody's meanwhile is left alone", marks: 3, job: "j1", refused: true, between: func(t *testing.T, device, state string) {
			overwrite(t, device)
			req := withForce(played{Device: device, Image: other, State: state}.request())
			if _, err := Run(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			overwrite(t, device) // as whoever uses it does
		}},
		{name: "a disk that got an image with the same blocks before the mark is left alone", marks: 3, job: "j1", refused: true, between: func(t *testing.T, device, state string) {
			if _, err := Run(t.Context(), withForce(played{Device: device, Image: alike, State: state}.request())); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			device, _ := loop(t, 32)
			var handed *Record
			first := played{Device: device, Image: qcow2, State: t.TempDir(), MarkEvery: 2 << 20}.request()
			first.Job = "j1"
			marks := 0
			first.Hand = func(_ context.Context, r Record) error {
				if r.Mark != nil {
					marks++
				}
				if marks <= tc.marks {
					handed = &r
				}
				if r.Mark != nil && marks >= max(tc.marks, 1) {
					return died
				}
				return nil
			}
			if _, err := Run(t.Context(), first); !errors.Is(err, died) || handed == nil || (handed.Mark != nil) != (tc.marks > 0) {
				t.Fatalf("got %v and %+v", err, handed)
			}
			state := t.TempDir()
			if tc.between != nil {
				tc.between(t, device, state)
			}
			second := played{Device: device, Image: qcow2, State: state}.request()
			second.Job, second.Handed = tc.job, handed
			out, err := Run(t.Context(), second)
			if e, ok := errors.AsType[*Error](err); tc.refused {
				if !ok || e.Kind != Content {
					t.Errorf("got %v, want %s", err, Content)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := tc.resumes; (out.Resumed > 0) != want || want && out.Resumed != handed.Mark.Offset {
				t.Errorf("it went on at %d", out.Resumed)
			}
			if out.State != done || !out.Verified {
				t.Errorf("the record: %+v", out.Record)
			}
			wantDisk(t, device, raw)
		})
	}
}

// The machine's own record of a job that is unfinished here may be of one that has ended elsewhere.
func TestWhatAJobLeftUnfinishedIsThatJobsAlone(t *testing.T) {
	raw, qcow2 := templateFile(t, 16, 11)
	mbr(t, raw, qcow2)
	device, _ := loop(t, 24)
	died := errors.New("died")
	req := played{Device: device, Image: qcow2, State: t.TempDir(), MarkEvery: 2 << 20}.request()
	req.Job = "j1"
	req.Hand = func(_ context.Context, r Record) error {
		if r.Mark != nil {
			return died
		}
		return nil
	}
	if _, err := Run(t.Context(), req); !errors.Is(err, died) {
		t.Fatal(err)
	}
	req.Hand = nil
	for _, job := range []string{"j2", ""} {
		req.Job = job
		_, err := Run(t.Context(), req)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Content || !strings.Contains(e.Do, "`v2v jobs retry j1` goes on") {
			t.Errorf("job %q: got %v", job, err)
		}
	}
	req.Job = "j1"
	out, err := Run(t.Context(), req)
	if err != nil || out.Resumed == 0 || !out.Verified {
		t.Errorf("the job itself: %+v, %v", out, err)
	}
	wantDisk(t, device, raw)
}

// mbr gives a template a partition table.
func mbr(t *testing.T, raw, qcow2 string) {
	t.Helper()
	f, err := os.OpenFile(raw, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sector := make([]byte, 512)
	copy(sector[446:], []byte{0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0})
	sector[510], sector[511] = 0x55, 0xaa
	if _, err := f.WriteAt(sector, 0); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
}
