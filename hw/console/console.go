// Package console speaks to the people at a machine: it writes to the active
// consoles without ever waiting for them, and asks a question on all of them
// at once.
//
// It owns which consoles are active, the bounded queue before each, and the
// terminal settings while somebody types a secret. It never logs what was
// typed and sends no escape codes.
package console

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Active lists the device nodes of the active consoles, the preferred one
// last, from root/sys/class/tty/console/active (drivers/tty/tty_io.c).
func Active(root string) ([]string, error) {
	b, err := os.ReadFile(root + "/sys/class/tty/console/active")
	if err != nil {
		return nil, fmt.Errorf("list consoles: %w", err)
	}
	var list []string
	for _, n := range strings.Fields(string(b)) {
		if n == "tty0" { // whichever virtual terminal is in front
			list = append(list, "/dev/tty0")
			continue
		}
		list = append(list, "/dev/"+n)
	}
	return list, nil
}

// queueSize bounds what waits for a slow console, in lines.
const queueSize = 512

// Writer writes lines to one file from a goroutine of its own. A console that
// is too slow, or stopped by flow control, loses lines and is told how many;
// whoever writes never waits.
type Writer struct {
	mu      sync.Mutex
	lines   []string // guarded by mu
	dropped int      // guarded by mu
	closed  bool     // guarded by mu
	wake    *sync.Cond
	done    chan struct{}
}

// Open starts a Writer to the device at path.
func Open(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	return New(f), nil
}

// New starts a Writer to f, which it closes at its end.
func New(f interface {
	Write([]byte) (int, error)
	Close() error
}) *Writer {
	w := &Writer{done: make(chan struct{})}
	w.wake = sync.NewCond(&w.mu)
	go func() {
		defer close(w.done)
		defer f.Close()
		for {
			text, ok := w.next()
			if !ok {
				return
			}
			if _, err := f.Write([]byte(text)); err != nil {
				w.drop()
			}
		}
	}()
	return w
}

// Line queues one line; it never waits.
func (w *Writer) Line(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.lines) >= queueSize {
		w.dropped++
		return
	}
	w.lines = append(w.lines, s)
	w.wake.Signal()
}

// Close writes what is queued, in the background; Done tells when it has.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wake.Signal()
}

// Done is closed when everything queued before Close has been written.
func (w *Writer) Done() <-chan struct{} { return w.done }

func (w *Writer) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped++
}

// next waits for lines and returns all there are as one text.
func (w *Writer) next() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.lines) == 0 && !w.closed {
		w.wake.Wait()
	}
	if len(w.lines) == 0 {
		return "", false
	}
	var b strings.Builder
	if w.dropped > 0 {
		fmt.Fprintf(&b, "(%d lines were lost here: the console was too slow)\r\n", w.dropped)
		w.dropped = 0
	}
	for _, l := range w.lines {
		b.WriteString(printable(l))
		b.WriteString("\r\n")
	}
	w.lines = nil
	return b.String(), true
}

// printable replaces what could move a cursor or change a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
