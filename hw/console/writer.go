package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// queueSize bounds what waits for a slow console, in lines.
	queueSize = 512
	// batchSize is how many lines go in one write: what a console that stops has swallowed cannot be dropped any more.
	batchSize = 16
	// maxLine bounds one line, in bytes.
	maxLine = 64 << 10
)

// Writer writes lines to one console from a goroutine of its own. A console that is too slow, or stopped by flow control,
// loses the oldest lines that wait and is told how many; whoever writes never waits. It is safe for concurrent use.
type Writer struct {
	out  io.WriteCloser
	wake chan struct{} // has room for one: something changed
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	lines   []string // guarded by mu; at most queueSize
	dropped int      // guarded by mu; lines lost since the last write, all older than lines
	closed  bool     // guarded by mu
	foot    string   // guarded by mu; stands behind the last line
	open    bool     // guarded by mu; the screen's last line has no end
}

// Open starts a Writer to the device at path.
func Open(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	return New(f), nil
}

// OpenShared starts a Writer to a device that other processes write lines to as well: what is written at once reaches it
// as a whole. Only a write that may block does so (drivers/tty/tty_io.c, tty_write_lock); one that is stuck ends with
// the process, and Drain gives it up before.
func OpenShared(path string) (*Writer, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // never waits for a carrier
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return nil, fmt.Errorf("open console: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return New(os.NewFile(uintptr(fd), path)), nil
}

// New starts a Writer to out, which it closes at its end. A Write of out may block for as long as it likes, if Close of
// out ends it: an *os.File of a terminal does so when it was opened with O_NONBLOCK.
func New(out io.WriteCloser) *Writer {
	w := &Writer{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Line queues one line; it never waits. What is not printable ASCII becomes '?'.
func (w *Writer) Line(s string) {
	if len(s) > maxLine {
		s = s[:maxLine]
	}
	s = printable(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if len(w.lines) == queueSize {
		w.lines = w.lines[1:]
		w.dropped++
	}
	w.lines = append(w.lines, s)
	w.signal()
}

// Foot says what stands on the screen behind the last line, written by somebody else: a question. Lines then begin below
// it, and it is written again after them. An empty text ends that.
func (w *Writer) Foot(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = w.open || w.foot != "" || text != ""
	w.foot = printable(text)
}

// Close lets what is queued be written, in the background, and nothing be queued any more. Done tells when it is through.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

// Done is closed when everything queued before Close has been written, or was given up.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Drain closes and waits until everything is written. When ctx ends first, the rest is given up: a console that is stopped
// holds nobody up.
func (w *Writer) Drain(ctx context.Context) error {
	w.Close()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	left := len(w.lines)
	w.lines = nil
	w.mu.Unlock()
	_ = w.out.Close() // ends the write that is stuck; the goroutine closes it again and ends
	return fmt.Errorf("write to the console: %d lines were left: %w", left, context.Cause(ctx))
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) run() {
	defer close(w.done)
	defer w.out.Close()
	for {
		text, lines, ended := w.next()
		if lines == 0 {
			if ended {
				sent(w.out)
				return
			}
			<-w.wake
			continue
		}
		// A failed console has nowhere to be told but at its own next line.
		if _, err := io.WriteString(w.out, text); err != nil {
			w.mu.Lock()
			w.dropped += lines
			w.mu.Unlock()
		}
	}
}

// sent waits until a terminal has sent what was written to it, as tcdrain(3) does: the last lines before a reboot would
// be lost in its buffer. A terminal that is stopped keeps this goroutine, and nobody else, until the process ends.
func sent(out io.Writer) {
	f, ok := out.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	own := -1 // whoever closes out waits for calls with its own descriptor
	_ = raw.Control(func(fd uintptr) { own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil || own < 0 {
		return
	}
	defer unix.Close(own)
	_ = unix.IoctlSetInt(own, unix.TCSBRK, 1) // ENOTTY: not a terminal
}

// next takes the oldest lines as one text.
func (w *Writer) next() (text string, lines int, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.lines), batchSize)
	if n == 0 {
		return "", 0, w.closed
	}
	var b strings.Builder
	if w.open {
		b.WriteByte('\n')
		w.open = w.foot != ""
	}
	if w.dropped > 0 {
		fmt.Fprintf(&b, "(%d lines were lost here: the console was too slow)\n", w.dropped)
		w.dropped = 0
	}
	for _, l := range w.lines[:n] {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	b.WriteString(w.foot)
	w.lines = w.lines[n:]
	if len(w.lines) == 0 {
		w.lines = nil
	}
	return b.String(), n, false
}
