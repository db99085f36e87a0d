package deploy

import (
	"bufio"
	"encoding/json"
	"errors"

	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnImageBecomesADiskAndIsRecorded(t *testing.T) {
	device, backing := loop(t, 48)
	raw, qcow2 := templateFile(t, 40, 1)
	state := t.TempDir()
	// What was there before must not shine through holes, nor an old table at the end.
	if err := os.WriteFile(backing, []byte(strings.Repeat("old data", 48<<17)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := Run(t.Context(), played{Device: device, Image: qcow2, State: state}.request())
	if err != nil {
		t.Fatal(err)
	}
	if !out.Verified || out.State != done || out.Machine != "vm-17" || out.Image.Format != "qcow2" || out.Target.Size != 48<<20 || out.Resumed != 0 {
		t.Errorf("got %+v", out)
	}
	wantDisk(t, device, raw)
	all, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	if rest := all[len(all)-1<<20:]; strings.Trim(string(rest), "\x00") != "" {
		t.Error("the end of the disk was not cleared")
	}
	rec, err := ReadRecord(state, "loop."+backing)
	if err != nil || rec == nil {
		t.Fatal(rec, err)
	}
	if diff := cmp.Diff(out.Record, *rec); diff != "" {
		t.Errorf("the record is other than the outcome:\n%s", diff)
	}
	again, err := Run(t.Context(), withForce(played{Device: device, Image: raw, State: state}.request()))
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Before) != 1 || again.Before[0].Image != rec.Image.Path || again.Before[0].State != done {
		t.Errorf("what was before: %+v", again.Before)
	}
}

func withForce(r Request) Request {
	r.Force = true
	r.Format = "raw"
	return r
}

func TestRefusals(t *testing.T) {
	_, qcow2 := templateFile(t, 8, 2)
	for _, tc := range []struct {
		name  string
		kind  Kind
		says  string
		setup func(t *testing.T, r *Request)
	}{
		{"a disk that is too small", TooSmall, "has 4194304 bytes, and the image needs 8388608", func(t *testing.T, r *Request) {
			r.Disk.Device, _ = loop(t, 4)
		}},
		{"a disk with a file system", Content, `holds ext4 "precious"`, func(t *testing.T, r *Request) {
			tool(t, "mkfs.ext4", "-q", "-L", "precious", r.Disk.Device)
		}},
		{"a disk with swap", Content, "holds swap", func(t *testing.T, r *Request) { tool(t, "mkswap", r.Disk.Device) }},
		{"a disk that another holds", InUse, "is in use", func(t *testing.T, r *Request) { hold(t, r.Disk.Device) }},
		{"a disk that another holds, with force", InUse, "is in use", func(t *testing.T, r *Request) {
			r.Force = true
			hold(t, r.Disk.Device)
		}},
		{"a disk of another identity", WrongDisk, "naa.5000 was expected", func(t *testing.T, r *Request) { r.Disk.WWID = "naa.5000" }},
		{"a disk of another identity, with force", WrongDisk, "naa.5000 was expected", func(t *testing.T, r *Request) { r.Disk.WWID, r.Force = "naa.5000", true }},
		{"a disk that is read-only", WrongDisk, "is read-only", func(t *testing.T, r *Request) { r.Disk.Device, _ = loop(t, 16, "-r") }},
		{"no disk at all", WrongDisk, "no block device", func(t *testing.T, r *Request) { r.Disk.Device = "/dev/null" }},
		{"a disk that does not come", NotThere, "not there after", func(t *testing.T, r *Request) { r.Disk.Device, r.Wait = "/dev/v2v-nothing", 1 }},
		{"an iSCSI disk without a session", NotThere, "there is no session with iqn.2026-01.test:x by 192.0.2.1:3260", func(t *testing.T, r *Request) {
			r.Disk, r.Wait = Disk{ByPath: "ip-192.0.2.1:3260-iscsi-iqn.2026-01.test:x-lun-1"}, 1
		}},
		{"a path of another target", WrongDisk, "the path says iqn.2026-01.test:x", func(t *testing.T, r *Request) {
			r.Disk = Disk{IQN: "iqn.2026-01.test:y", ByPath: "ip-192.0.2.1:3260-iscsi-iqn.2026-01.test:x-lun-1"}
		}},
		{"a path by another portal", WrongDisk, "the path says 192.0.2.1 port 3260", func(t *testing.T, r *Request) {
			r.Disk = Disk{Portal: "192.0.2.2", ByPath: "/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2026-01.test:x-lun-1"}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			device, backing := loop(t, 16)
			before := mark(t, backing)
			req := played{Device: device, Image: qcow2, State: t.TempDir()}.request()
			tc.setup(t, &req)
			if tc.kind == Content {
				before = mark(t, backing)
			}
			_, err := Run(t.Context(), req)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != tc.kind || !strings.Contains(e.Error(), tc.says) {
				t.Fatalf("got %v (%+v), want %s: %q", err, e, tc.kind, tc.says)
			}
			if after := mark(t, backing); after != before {
				t.Error("the disk was written to")
			}
			if files, _ := filepath.Glob(filepath.Join(req.State, "deploy", "*")); len(files) > 0 {
				t.Errorf("records: %v", files)
			}
		})
	}
}

func hold(t *testing.T, device string) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|syscall.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
}

// mark is what a file holds, briefly.
func mark(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(14695981039346656037)
	for _, c := range b {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return strconv.FormatUint(sum, 16)
}

func TestForceOverwritesContent(t *testing.T) {
	device, _ := loop(t, 16)
	raw, qcow2 := templateFile(t, 8, 3)
	tool(t, "mkfs.ext4", "-q", device)
	req := played{Device: device, Image: qcow2, State: t.TempDir()}.request()
	req.Force = true
	if _, err := Run(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	wantDisk(t, device, raw)
}

// killed runs a deploy in a process that is killed once it has come to a place of the disk; true if it ended by itself before.
func killed(t *testing.T, p played, at int64) bool {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "V2V_TEST_DEPLOY="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if n >= at {
			_ = cmd.Process.Kill()
			break
		}
	}
	for lines.Scan() { // the pipe must not keep it
	}
	err = cmd.Wait()
	if err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatal(err)
	}
	return err == nil
}

// deployKilled kills a deploy n times at random places and lets it end; each run goes on where the one before had its mark.
func deployKilled(t *testing.T, n int) {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	const mib = 24
	raw, qcow2 := templateFile(t, mib, 4)
	device, backing := loop(t, 32)
	state := t.TempDir()
	p := played{Device: device, Image: qcow2, State: state, MarkEvery: 2 << 20}
	kills, resumed := 0, 0
	for kills < n {
		rec, err := ReadRecord(state, "loop."+backing)
		if err != nil {
			t.Fatal(err)
		}
		from := int64(0)
		if rec != nil && rec.Mark != nil && rec.State == writing {
			from = rec.Mark.Offset
			resumed++
		}
		if killed(t, p, from+rng.Int64N(mib<<20-from+1)) {
			wantDisk(t, device, raw)
			// The next round begins with an empty disk.
			if err := os.RemoveAll(filepath.Join(state, "deploy")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(backing, make([]byte, 32<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		kills++
	}
	out, err := Run(t.Context(), p.request())
	if err != nil {
		t.Fatal(err)
	}
	wantDisk(t, device, raw)
	if !out.Verified || resumed == 0 {
		t.Errorf("verified %v, resumed %d of %d", out.Verified, resumed, kills)
	}
	t.Logf("%d kills, %d runs went on from a mark", kills, resumed)
}

func TestADeployThatIsKilledTenTimesGoesOn(t *testing.T) { deployKilled(t, 10) }

func TestSoakADeployThatIsKilledAHundredTimesGoesOn(t *testing.T) { deployKilled(t, 100) }

func TestWhatWasBegunIsGoneOnWithOnlyIfAllIsTheSame(t *testing.T) {
	raw, qcow2 := templateFile(t, 24, 5)
	for _, tc := range []struct {
		name    string
		between func(t *testing.T, p *played, backing string)
		resumes bool
	}{
		{"nothing changed", func(*testing.T, *played, string) {}, true},
		{"the image changed", func(t *testing.T, p *played, _ string) {
			copied := filepath.Join(t.TempDir(), "t.qcow2")
			b, err := os.ReadFile(p.Image)
			if err == nil {
				err = os.WriteFile(copied, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			p.Image = copied
		}, false},
		{"somebody wrote to the disk before the mark", func(t *testing.T, p *played, backing string) {
			// All of it: the mark remembers its last blocks with data.
			f, err := os.OpenFile(p.Device, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte(strings.Repeat("x", 4<<20)), 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			device, backing := loop(t, 32)
			p := played{Device: device, Image: qcow2, State: t.TempDir(), MarkEvery: 2 << 20}
			if killed(t, p, 5<<20) {
				t.Fatal("it ended before it was killed")
			}
			tc.between(t, &p, backing)
			out, err := Run(t.Context(), p.request())
			if err != nil {
				t.Fatal(err)
			}
			if (out.Resumed > 0) != tc.resumes {
				t.Errorf("it went on at %d", out.Resumed)
			}
			wantDisk(t, device, raw)
		})
	}
}

// Nor would a run that goes on behind the last mark find what is wrong before it.
func TestADiskThatReadsBackOtherThanItWasWrittenIsBegunAgain(t *testing.T) {
	raw, qcow2 := templateFile(t, 16, 6)
	device, backing := loop(t, 24)
	state := t.TempDir()
	p := played{Device: device, Image: qcow2, State: state, MarkEvery: 2 << 20}
	req := p.request()
	req.Report = func(e Event) {
		if e.Phase == "copy" && e.Note == "" && e.Offset == e.Size {
			f, err := os.OpenFile(device, os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte(strings.Repeat("x", 2<<20)), 0); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := Run(t.Context(), req)
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Mismatch {
		t.Fatalf("got %v, want %s", err, Mismatch)
	}
	if rec, err := ReadRecord(state, "loop."+backing); err != nil || rec == nil || rec.State != writing || rec.Mark != nil {
		t.Errorf("the record is %+v, %v", rec, err)
	}
	out, err := Run(t.Context(), p.request())
	if err != nil {
		t.Fatal(err)
	}
	if out.Resumed != 0 {
		t.Errorf("it went on at %d", out.Resumed)
	}
	wantDisk(t, device, raw)
}

func TestParseByPath(t *testing.T) {
	for _, tc := range []struct {
		name string
		want ISCSI
	}{
		{"ip-192.0.2.10:3260-iscsi-iqn.2010-10.org.example:vm-1-lun-0", ISCSI{"192.0.2.10", 3260, "iqn.2010-10.org.example:vm-1", 0}},
		{"/dev/disk/by-path/ip-2001:db8::1:3261-iscsi-iqn.2010-10.org.example:a-lun-3-lun-255", ISCSI{"2001:db8::1", 3261, "iqn.2010-10.org.example:a-lun-3", 255}},
		{"ip-192.0.2.10:3260-iscsi-eui.02004567A425678D-lun-0x0100000000000000", ISCSI{"192.0.2.10", 3260, "eui.02004567A425678D", 256}},
	} {
		got, err := ParseByPath(tc.name)
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v; want %+v", tc.name, got, err, tc.want)
		}
	}
	for _, bad := range []string{"", "sda", "ip-192.0.2.10:3260-iscsi-iqn.x-lun-0-part1", "ip-host:3260-iscsi-iqn.x-lun-0", "ip-192.0.2.10:0-iscsi-iqn.x-lun-0",
		"ip-192.0.2.10:3260-iscsi-x-lun-0", "pci-0000:00:05.0", "ip-192.0.2.10:99999-iscsi-iqn.x-lun-1", "ip-192.0.2.10:3260-iscsi-iqn.x-lun-0x1"} {
		if got, err := ParseByPath(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, got)
		}
	}
}

func FuzzParseByPath(f *testing.F) {
	f.Add("ip-192.0.2.10:3260-iscsi-iqn.2010-10.org.example:vm-1-lun-0")
	f.Add("ip-2001:db8::1:3261-iscsi-eui.x-lun-0x4001000000000000")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseByPath(s)
		if err == nil && (got.Port == 0 || got.IQN == "" || got.Address == "") {
			t.Errorf("%q: %+v", s, got)
		}
	})
}
