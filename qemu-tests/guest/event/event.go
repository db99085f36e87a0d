// Package event is the guest's end of a test machine's event port: the second serial port, one JSON object a line in both
// directions. It owns the port's framing and settings. It never decides what the events mean, and never blocks the guest
// on a slow reader for longer than the port's speed asks.
package event

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Device is the port's name in the guest.
const Device = "/dev/ttyS1"

// Port is an open event port. Emit is safe for concurrent use; Receive belongs to one goroutine.
type Port struct {
	mu sync.Mutex
	rw *os.File
	in *bufio.Reader
}

// Open opens the port and makes it raw: no echo, no line editing, no CR.
func Open() (*Port, error) {
	f, err := os.OpenFile(Device, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	fd := int(f.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: get its settings: %w", Device, err)
	}
	// cfmakeraw of termios(3).
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: make it raw: %w", Device, err)
	}
	return &Port{rw: f, in: bufio.NewReader(f)}, nil
}

// Emit sends one event with its members; the member "event" is the name.
func (p *Port) Emit(name string, members map[string]any) error {
	object := map[string]any{"event": name}
	for k, v := range members {
		if k == "event" {
			return fmt.Errorf("emit %s: the member %q is the event's name", name, k)
		}
		object[k] = v
	}
	line, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("emit %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.rw.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("emit %s: %w", name, err)
	}
	return nil
}

// Receive waits for the next line that the test's Tell has sent and decodes it into v.
func (p *Port) Receive(v any) error {
	line, err := p.in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("receive %q: %w", line, err)
	}
	return nil
}

// Drain waits until everything that was emitted has left the port; do it before a power-off.
func (p *Port) Drain() error {
	// tcdrain(3).
	if err := unix.IoctlSetInt(int(p.rw.Fd()), unix.TCSBRK, 1); err != nil {
		return fmt.Errorf("%s: drain: %w", Device, err)
	}
	return nil
}
