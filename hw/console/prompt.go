package console

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"initd/hw/secret"
)

// maxAnswer bounds a typed answer, in bytes.
const maxAnswer = 4096

// Answer is what somebody typed, and where.
type Answer struct {
	Secret  *secret.Buffer // the caller destroys it
	Console string
}

// Prompt writes question to all consoles at once and returns the first answer.
// Nothing is echoed; backspace and ^U work, and what is pasted before the
// prompt is there is read. It waits for as long as ctx does.
func Prompt(ctx context.Context, consoles []*os.File, question string) (Answer, error) {
	if len(consoles) == 0 {
		return Answer{}, errors.New("ask at the console: there is none")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return Answer{}, fmt.Errorf("ask at the console: %w", err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	var asked []*typing
	defer func() {
		for _, t := range asked {
			t.end()
		}
	}()
	for _, f := range consoles {
		t, err := begin(f, question)
		if err == nil {
			asked = append(asked, t)
		}
	}
	if len(asked) == 0 {
		return Answer{}, errors.New("ask at the console: none of them is a terminal")
	}
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	for _, t := range asked {
		fds = append(fds, unix.PollFd{Fd: int32(t.f.Fd()), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return Answer{}, fmt.Errorf("ask at the console: %w", err)
		}
		if fds[0].Revents != 0 {
			return Answer{}, fmt.Errorf("ask at the console: %w", context.Cause(ctx))
		}
		for i, t := range asked {
			switch p := &fds[i+1]; {
			case p.Revents&unix.POLLIN != 0:
				if t.read() {
					b, err := secret.From(t.line.Bytes()[:t.n])
					return Answer{Secret: b, Console: t.f.Name()}, err
				}
			case p.Revents != 0:
				p.Fd = -1 // hung up: the others may still answer
			}
		}
	}
}

// typing is one terminal while somebody may type.
type typing struct {
	f    *os.File
	old  *unix.Termios
	line *secret.Buffer
	n    int
}

// begin turns echo and line editing off: the line is edited here, so that the
// kernel's buffer does not hold it.
func begin(f *os.File, question string) (*typing, error) {
	old, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	raw := *old
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG
	raw.Iflag |= unix.ICRNL
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	line, err := secret.New(maxAnswer)
	if err != nil {
		return nil, err
	}
	t := &typing{f: f, old: old, line: line}
	_, _ = f.WriteString("\r\n" + printable(question) + ": ") // one that cannot be written to may still be read
	return t, nil
}

func (t *typing) end() {
	_, _ = t.f.WriteString("\r\n")
	_ = unix.IoctlSetTermios(int(t.f.Fd()), unix.TCSETS, t.old)
	t.line.Destroy()
}

// read takes what was typed; true when the line is complete.
func (t *typing) read() bool {
	var c [1]byte
	n, err := unix.Read(int(t.f.Fd()), c[:])
	if n != 1 || err != nil {
		return false
	}
	b := t.line.Bytes()
	switch c[0] {
	case '\n', '\r':
		c[0] = 0
		return true
	case 0x7f, 0x08: // backspace
		if t.n > 0 {
			t.n--
			b[t.n] = 0
		}
	case 0x15: // ^U
		clear(b[:t.n])
		t.n = 0
	case 0x03, 0x04: // ^C, ^D: nothing to interrupt here
	default:
		if t.n < maxAnswer {
			b[t.n] = c[0]
			t.n++
		}
	}
	c[0] = 0
	return false
}
