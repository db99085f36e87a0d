//go:build guest

package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/dm"
)

// attach makes a block device of a file.
func attach(t *testing.T, path string) *os.File {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("load the module loop: %v", err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0), device.Close()); err != nil {
			t.Error(err)
		}
	})
	return device
}

// openRequest is what the open role is told: positions in its files.
type openRequest struct {
	Name               string
	Data, Header       int // Header -1: none
	Keys               []int
	ReadOnly, Discards bool
}

type openAnswer struct {
	Params Params
	Error  string
}

// playOpenGuest is what the open child of a real program does; then it waits, to be looked at.
func playOpen() error {
	var requests []openRequest
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&requests); err != nil {
		return err
	}
	files := inherited()
	var volumes []Volume
	for _, r := range requests {
		v := Volume{Name: r.Name, Data: files[r.Data], ReadOnly: r.ReadOnly, Discards: r.Discards}
		if r.Header >= 0 {
			v.Header = files[r.Header]
		}
		for _, key := range r.Keys {
			v.Keys = append(v.Keys, files[key])
		}
		volumes = append(volumes, v)
	}
	outcomes, err := OpenBatch(context.Background(), volumes, Batch{Derive: deriver})
	if err != nil {
		return err
	}
	answers := make([]openAnswer, len(outcomes))
	for i, o := range outcomes {
		answers[i].Params = o.Params
		if o.Err != nil {
			answers[i].Error = o.Err.Error()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		return err
	}
	var more json.RawMessage
	_ = input.Decode(&more) // until its parent closes the pipe
	return nil
}

// openAll runs the open role for volumes and lets look inspect the process before it ends.
func openAll(t *testing.T, volumes []Volume, look func(pid int)) []openAnswer {
	t.Helper()
	var files []*os.File
	put := func(file *os.File) int { files = append(files, file); return len(files) - 1 }
	var requests []openRequest
	for _, v := range volumes {
		r := openRequest{Name: v.Name, Data: put(v.Data), Header: -1, ReadOnly: v.ReadOnly, Discards: v.Discards}
		if v.Header != nil {
			r.Header = put(v.Header)
		}
		for _, key := range v.Keys {
			r.Keys = append(r.Keys, put(key))
		}
		requests = append(requests, r)
	}
	cmd := roleCommand(t.Context(), "open", files)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(stdin).Encode(requests); err != nil {
		t.Fatal(err)
	}
	var answers []openAnswer
	decodeErr := json.NewDecoder(stdout).Decode(&answers)
	if look != nil && decodeErr == nil {
		look(cmd.Process.Pid)
	}
	_ = stdin.Close()
	if err := errors.Join(decodeErr, cmd.Wait()); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	for _, v := range volumes {
		t.Cleanup(func() {
			if err := Close(context.Background(), v.Name); err != nil && !errors.Is(err, dm.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	return answers
}

// copies counts how often each pattern is in the writable memory of another process (constants do not count).
func copies(t *testing.T, pid int, patterns ...[]byte) []int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	counts, chunk := make([]int, len(patterns)), make([]byte, 1<<20)
	zeros := make([]byte, len(chunk))
	const overlap = 4096 // so that nothing hides on an edge
	for line := range strings.SplitSeq(string(maps), "\n") {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += int64(len(chunk) - overlap) {
			n, _ := mem.ReadAt(chunk[:min(int64(len(chunk)), to-at)], at)
			if bytes.Equal(chunk[:n], zeros[:n]) {
				continue
			}
			for i, pattern := range patterns {
				counts[i] += bytes.Count(chunk[:n], pattern)
			}
		}
	}
	return counts
}

// pattern is what a volume is filled with at its start and near its end.
func pattern(seed string) []byte {
	out := make([]byte, 0, 64<<10)
	for i := 0; len(out) < 64<<10; i++ {
		sum := sha256.Sum256(fmt.Append(nil, seed, i))
		out = append(out, sum[:]...)
	}
	return out
}

func places(length uint64) []int64 { return []int64{0, 1 << 20, int64(length) - 64<<10} }

func write(t *testing.T, name string, length uint64, seed string) {
	t.Helper()
	device, err := os.OpenFile(dm.Node(name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for i, at := range places(length) {
		if _, err := device.WriteAt(pattern(seed+strconv.Itoa(i)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := device.Sync(); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, name string, length uint64, seed string) bool {
	t.Helper()
	device, err := os.Open(dm.Node(name))
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for i, at := range places(length) {
		got := make([]byte, 64<<10)
		if _, err := device.ReadAt(got, at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, pattern(seed+strconv.Itoa(i))) {
			return false
		}
	}
	return true
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// table is that of dmsetup without the word of the key, which differs from opening to opening.
func table(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(keyWord.ReplaceAllString(run(t, "dmsetup", "table", name), "crypt $1 KEY "))
}

// status is what cryptsetup says of a mapping, without its name and without where the key is: cryptsetup itself leaves
// that of LUKS1 in the table.
func status(t *testing.T, name string) string {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(run(t, "cryptsetup", "status", name), "\n") {
		if !strings.HasPrefix(line, "/dev/mapper/") && !strings.Contains(line, "key location") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// keysOfRoot is how many keys the kernel holds for root, those that nobody may see included.
func keysOfRoot(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/key-users")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		var uid, usage, keys int
		if n, _ := fmt.Sscanf(line, "%d: %d %d/", &uid, &usage, &keys); n == 3 && uid == 0 {
			return keys
		}
	}
	t.Fatalf("root is not in\n%s", text)
	return 0
}

// waitFor is for what the kernel does in its own time and tells nobody about.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

func backing(t *testing.T, device *os.File) string {
	t.Helper()
	dev, err := blockDevice(device)
	if err != nil {
		t.Fatal(err)
	}
	return dev.String()
}
