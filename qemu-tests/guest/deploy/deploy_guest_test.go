//go:build guest

package deploy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"initd/hw/iscsi"
	"initd/hw/link"
	"initd/hw/sysfs/sysfstest"
	"initd/qemu-tests/peer/lio"
)

const (
	iqn    = "iqn.2026-01.net.example:vm-17"
	byPath = "ip-127.0.0.1:3260-iscsi-" + iqn + "-lun-0"
	mib    = 1 << 20
	size   = 16 * mib
)

// One machine, one story: an image goes onto a LUN by the old name; a deploy is killed in the middle and gone on with; a target is lost in the middle
// and comes back; what is not there, or in use, is said.
func TestDeploy(t *testing.T) {
	if err := link.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	target, err := lio.Start(t.Context(), lio.Config{Targets: []lio.Target{{IQN: iqn, Portals: []string{"127.0.0.1:3260"}, LUNs: []lio.LUN{{Number: 0, MiB: 24}}}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"/etc/iscsi", "/tmp", "/var/lib"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName=iqn.2026-01.net.example:host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("v2v", "/bin/mechadora"); err != nil {
		t.Fatal(err)
	}
	raw, qcow2 := filepath.Join(dir, "t.raw"), filepath.Join(dir, "t.qcow2")
	image := disk(1)
	if err := os.WriteFile(raw, image, 0o600); err != nil {
		t.Fatal(err)
	}
	v2v(t, "", "convert", "-q", "-f", "raw", "-O", "qcow2", "-o", "compress=zstd", raw, qcow2)

	t.Log("the old name: login, proof, copy, verification, logout")
	out, err := exec.Command("/bin/mechadora", "deploy", "127.0.0.1", iqn, qcow2, byPath).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	wantDisk(t, image)
	noSessions(t)

	t.Log("a LUN that is not there is waited for, and named")
	v2v(t, "shows no disk as LUN 7|no LUN 7|LUN 7", "deploy", "--wait", "3s", "--by-path", strings.Replace(byPath, "lun-0", "lun-7", 1), qcow2)

	t.Log("killed in the middle, and gone on with")
	second := filepath.Join(dir, "second.raw")
	image = disk(2)
	if err := os.WriteFile(second, image, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"deploy", "--json", "--mark-every", "2M", "--force", "--machine", "vm-17", "--by-path", byPath, "-f", "raw", second}
	kill := start(t, append([]string{"deploy", "--rate", "4M"}, args[1:]...)...)
	kill.until(t, 5*mib)
	if err := kill.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = kill.cmd.Wait()
	var done struct {
		Resumed  int64
		Verified bool
	}
	text := v2v(t, "", args...)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &done); err != nil || done.Resumed < 2*mib || !done.Verified {
		t.Errorf("after the kill: %+v, %v: %s", done, err, text)
	}
	wantDisk(t, image)
	noSessions(t) // the killed one's was taken over

	t.Log("as a job, whose worker is killed in the middle: another one goes on")
	image = disk(4)
	if err := os.WriteFile(second, image, 0o600); err != nil {
		t.Fatal(err)
	}
	queue := []string{"--dir", filepath.Join(dir, "queue")}
	first := worker(t, queue)
	v2v(t, "", append([]string{"jobs", "submit", "deploy", "--id", "vm-17", "--rate", "4M", "--mark-every", "2M", "--force", "--by-path", byPath, "-f", "raw", second}, queue...)...)
	follow := start(t, append([]string{"jobs", "follow", "--json", "vm-17"}, queue...)...)
	for follow.progress(t) < 5*mib {
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	worker(t, queue)
	if err := follow.wait(t); err != nil {
		t.Fatal(err)
	}
	shown := v2v(t, "", append([]string{"jobs", "show", "--json", "vm-17"}, queue...)...)
	for _, want := range []string{`"outcome":"lost"`, `"state":"done"`, `"verified":true`} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %s in %s", want, shown)
		}
	}
	if strings.Contains(shown, `"resumed":0`) {
		t.Error("the second worker began anew: " + shown)
	}
	wantDisk(t, image)
	noSessions(t)

	t.Log("the target is lost in the middle, and comes back")
	image = disk(3)
	if err := os.WriteFile(second, image, 0o600); err != nil {
		t.Fatal(err)
	}
	lost := start(t, append([]string{"deploy", "--rate", "4M"}, args[1:]...)...)
	lost.until(t, 3*mib)
	if err := target.Change(lio.Change{Do: "off", Target: iqn}); err != nil {
		t.Fatal(err)
	}
	lost.says(t, "lost")
	if err := target.Change(lio.Change{Do: "on", Target: iqn}); err != nil {
		t.Fatal(err)
	}
	if err := lost.wait(t); err != nil {
		t.Fatalf("after the loss: %v", err)
	}
	wantDisk(t, image)
	noSessions(t)
}

// disk makes content: random data with holes.
func disk(seed uint64) []byte {
	b := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 9))
	for off := 0; off < size; off += 64 << 10 {
		if rng.IntN(4) == 0 {
			continue
		}
		for i := off; i < off+64<<10; i += 8 {
			v := rng.Uint64()
			for k := range 8 {
				b[i+k] = byte(v >> (8 * k))
			}
		}
	}
	return b
}

// v2v runs the program; wrong, if not empty, is a part of what it has to fail with (alternatives with |).
func v2v(t *testing.T, wrong string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/bin/v2v", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	t.Logf("v2v %s: %v\n%s", args[0], err, stderr.String())
	if wrong == "" {
		if err != nil {
			t.Fatal(err)
		}
		return stdout.String()
	}
	for _, w := range strings.Split(wrong, "|") {
		if err != nil && strings.Contains(stderr.String(), w) {
			return ""
		}
	}
	t.Errorf("it did not fail with %q", wrong)
	return ""
}

// running is a v2v that says in JSON how far it is.
type running struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	cmd := exec.Command("/bin/v2v", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &running{cmd, bufio.NewScanner(out)}
}

func (r *running) next(t *testing.T) (line struct {
	Phase, Note string
	Offset      int64
}) {
	t.Helper()
	if !r.lines.Scan() {
		t.Fatal("it ended before it came there")
	}
	t.Log(r.lines.Text())
	if err := json.Unmarshal(r.lines.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	return line
}

func (r *running) until(t *testing.T, offset int64) {
	t.Helper()
	for {
		if l := r.next(t); l.Phase == "copy" && l.Offset >= offset {
			return
		}
	}
}

func (r *running) says(t *testing.T, note string) {
	t.Helper()
	for !strings.Contains(r.next(t).Note, note) {
	}
}

func (r *running) wait(t *testing.T) error {
	for r.lines.Scan() {
		t.Log(r.lines.Text())
	}
	return r.cmd.Wait()
}

// worker runs jobs until it is killed, or the test ends.
func worker(t *testing.T, queue []string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/v2v", append([]string{"worker", "--lease", "6s"}, queue...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// progress is how far the job that is followed has come, in bytes.
func (r *running) progress(t *testing.T) int64 {
	t.Helper()
	if !r.lines.Scan() {
		t.Fatal("it ended before it came there")
	}
	var line struct {
		State, Error string
		Progress     struct {
			Phase string
			Done  int64
		}
	}
	if err := json.Unmarshal(r.lines.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", line)
	if line.Progress.Phase != "copy" {
		return 0
	}
	return line.Progress.Done
}

func wantDisk(t *testing.T, want []byte) {
	t.Helper()
	got, err := os.ReadFile(lio.File(0))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:size], want) {
		t.Error("the disk has other content than the image")
	}
}

func sessions(t *testing.T) []iscsi.Session {
	t.Helper()
	list, err := iscsi.Sessions(sysfstest.Open(t))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func noSessions(t *testing.T) {
	t.Helper()
	if list := sessions(t); len(list) > 0 {
		t.Errorf("sessions are left: %+v", list)
	}
}
