package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/secret"
)

// terminal is one console while somebody may type at it.
type terminal struct {
	name string
	fd   int // a description of its own, O_NONBLOCK; -1 when hung up
	old  unix.Termios
	line line
	out  []byte // what could not be written yet
}

// openTerminal opens f's device once more and turns echo and the driver's line editing off. The new description does not
// block, whatever flags f's has, which others may share.
func openTerminal(f *os.File) (*terminal, error) {
	path := ""
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { path = fmt.Sprintf("/proc/self/fd/%d", fd) })
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: open it to ask: %w", f.Name(), err)
	}
	t := &terminal{name: f.Name(), fd: fd}
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("%s: no terminal answers there: %w", t.name, err) // EIO: a serial port without hardware
	}
	t.old = *old
	set := *old
	quiet(&set)
	// TCSETS, not TCSETSW or TCSETSF: a stopped console would hold us up, and what is already pasted is the answer.
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &set); err != nil {
		t.close()
		return nil, fmt.Errorf("%s: turn echo off: %w", t.name, err)
	}
	if t.line.buf, err = secret.New(maxAnswer); err != nil {
		t.restore()
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *terminal) restore() {
	if t.fd >= 0 {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETS, &t.old) // fails on one that hung up
	}
}

// close wipes what was typed.
func (t *terminal) close() {
	if t.fd >= 0 {
		unix.Close(t.fd)
		t.fd = -1
	}
	t.line.buf.Destroy()
}

// say writes text, as far as the console takes it now; the rest goes when it is ready.
func (t *terminal) say(text string) {
	t.out = append(t.out, text...)
	t.flush()
}

// lastWords bounds how long consoles are waited for that have not taken all that was shown: the last line may meet a
// write of somebody else, and a console that is stopped holds nobody up.
const lastWords = time.Second

// leave restores the terminals and closes them, once they have taken what was shown.
func leave(terminals []*terminal) {
	waits := func(t *terminal) bool { return t.fd >= 0 && len(t.out) > 0 }
	for end := time.Now().Add(lastWords); slices.ContainsFunc(terminals, waits); {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		var fds []unix.PollFd
		for _, t := range terminals {
			if waits(t) {
				fds = append(fds, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLOUT})
			}
		}
		if _, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
		for _, t := range terminals {
			t.flush()
		}
	}
	for _, t := range terminals {
		t.restore()
		t.close()
	}
}

func (t *terminal) flush() {
	for len(t.out) > 0 && t.fd >= 0 {
		n, err := unix.Write(t.fd, t.out)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			t.out = nil // one that cannot be written to may still be read
			return
		}
		t.out = t.out[n:]
	}
}

// read takes one byte; false if there is none. One at a time, so that what was pasted behind the line stays with the
// driver, for the next question.
func (t *terminal) read() (outcome, bool) {
	var one [1]byte
	for {
		n, err := unix.Read(t.fd, one[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return consumed, false
		case err != nil || n == 0: // hung up: the others may still answer
			unix.Close(t.fd)
			t.fd = -1
			return consumed, false
		}
		result := t.line.put(one[0])
		one[0] = 0
		return result, true
	}
}

// Answers asks the terminal at f for its status (DSR 5, ECMA-48 8.3.35) and tells whether it answered within wait: then
// it understands escape codes. One that does not may show the question's few characters, so it is asked at most once a
// boot. What somebody types meanwhile is lost.
func Answers(ctx context.Context, f *os.File, wait time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t, err := openTerminal(f)
	if err != nil {
		return false, fmt.Errorf("ask for the terminal: %w", err)
	}
	defer t.close()
	defer t.restore()
	w, err := newWaker(ctx)
	if err != nil {
		return false, err
	}
	defer w.close()
	t.say("\x1b[5n")
	const ready = "\x1b[0n"
	var got []byte
	for {
		if err := w.poll([]*terminal{t}, -1); err != nil || ctx.Err() != nil || t.fd < 0 {
			return false, err
		}
		t.flush()
		var one [1]byte
		switch n, err := unix.Read(t.fd, one[:]); {
		case n == 1:
			if got = append(got, one[0]); len(got) > len(ready) {
				got = got[1:]
			}
			if string(got) == ready {
				return true, nil
			}
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			return false, nil // hung up
		}
	}
}

// Sane gives the terminal at f echo and line editing back: for whoever finds that a process which asked for a secret was
// killed before it could.
func Sane(f *os.File) error {
	return setModes(f, "turn echo on", func(set *unix.Termios) {
		set.Lflag |= unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ICANON | unix.ISIG | unix.IEXTEN
		set.Iflag |= unix.ICRNL
		set.Oflag |= unix.OPOST | unix.ONLCR
	})
}

// Hush turns echo and the driver's line editing at f off, as a question does: what is typed or pasted between two
// questions is kept for the second and not shown. Sane ends it.
func Hush(f *os.File) error {
	return setModes(f, "turn echo off", quiet)
}

// quiet is how a terminal stands while a secret may be typed.
func quiet(set *unix.Termios) {
	// A signal would reach nobody: there is no controlling terminal, and init's children are no job of a shell.
	set.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	// CR and LF as they come: a paste may end its lines with both, and that is one end.
	set.Iflag &^= unix.ICRNL | unix.INLCR | unix.IGNCR
	set.Oflag |= unix.OPOST | unix.ONLCR
	set.Cc[unix.VMIN], set.Cc[unix.VTIME] = 1, 0
}

// setModes changes the settings of the terminal at f at once, whatever waits to be written or read.
func setModes(f *os.File, what string, change func(*unix.Termios)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %s: %w", f.Name(), what, err)
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		var set *unix.Termios
		if set, failure = unix.IoctlGetTermios(int(fd), unix.TCGETS); failure != nil {
			return
		}
		change(set)
		failure = unix.IoctlSetTermios(int(fd), unix.TCSETS, set)
	})
	if err := errors.Join(err, failure); err != nil {
		return fmt.Errorf("%s: %s: %w", f.Name(), what, err)
	}
	return nil
}
