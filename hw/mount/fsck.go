package mount

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// FSCK is what a check of a file system found.
type FSCK struct {
	Corrected bool   `json:"corrected"`
	Reboot    bool   `json:"reboot,omitempty"` // e2fsck asks for a reboot: the root was repaired
	Output    string `json:"output,omitempty"` // its last lines
}

// FSCKError is a file system that could not be repaired, or not checked.
type FSCKError struct {
	Device, Type string
	Status       int
	Output       string
	Err          error // why it did not run
}

func (e *FSCKError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("check %s (%s): %v", e.Device, e.Type, e.Err)
	case e.Status&4 != 0:
		return fmt.Sprintf("check %s (%s): errors are left that need a decision: run fsck.%s %s by hand", e.Device, e.Type, e.Type, e.Device)
	}
	return fmt.Sprintf("check %s (%s): fsck ended with %d: %s", e.Device, e.Type, e.Status, e.Output)
}

func (e *FSCKError) Unwrap() error { return e.Err }

// Code is the stable code of this error.
func (e *FSCKError) Code() string {
	if e.Err != nil {
		return "FSCK-MISSING"
	}
	return "FSCK-FAILED"
}

// Object is what the report names.
func (e *FSCKError) Object() string { return e.Device }

// Retryable: what fsck left for a decision, the same fsck leaves again.
func (e *FSCKError) Retryable() bool { return e.Status&^3 == 0 }

// Hint says what to do.
func (e *FSCKError) Hint() string {
	if e.Err != nil {
		return "carry fsck." + e.Type + " in the image, or say fsck: never"
	}
	return fmt.Sprintf("fsck.%s -f %s", e.Type, e.Device)
}

// Check runs fsck.TYPE in its preening mode on device: what is safe is
// repaired. It is not ended by ctx: an interrupted repair is worse than a slow
// one. progress hears percents (e2fsck(8), -C).
func Check(_ context.Context, device, typ string, progress func(percent int)) (FSCK, error) {
	fail := func(err error) (FSCK, error) {
		return FSCK{}, &FSCKError{Device: device, Type: typ, Err: err}
	}
	path, err := exec.LookPath("fsck." + typ)
	if err != nil {
		return fail(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	var out tail
	cmd := exec.Command(path, "-p", "-C3", device)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fail(err)
	}
	readProgress(r, progress)
	status := 0
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !exit.Exited() {
			return fail(err)
		}
		status = exit.ExitCode()
	}
	// fsck(8), EXIT STATUS: 1 corrected, 2 reboot; the rest are failures.
	if status&^3 != 0 {
		return FSCK{}, &FSCKError{Device: device, Type: typ, Status: status, Output: out.String()}
	}
	return FSCK{Corrected: status&1 != 0, Reboot: status&2 != 0, Output: out.String()}, nil
}

// readProgress reads "PASS DONE ALL [DEVICE]" lines. e2fsck has five passes;
// the first takes about as long as the rest together.
func readProgress(r *os.File, progress func(int)) {
	share := [6]int{0, 50, 75, 80, 85, 100}
	s := bufio.NewScanner(r)
	last := -1
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 3 || progress == nil {
			continue
		}
		pass, _ := strconv.Atoi(f[0])
		done, _ := strconv.Atoi(f[1])
		all, _ := strconv.Atoi(f[2])
		if pass < 1 || pass > 5 || all <= 0 || done > all || done < 0 {
			continue
		}
		p := share[pass-1] + (share[pass]-share[pass-1])*done/all
		if p != last {
			last = p
			progress(p)
		}
	}
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > tailSize {
		t.b = append([]byte(nil), t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }
