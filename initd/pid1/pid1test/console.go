package pid1test

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal that plays the machine's console.
type terminal struct {
	master, slave *os.File
	name          string

	mu   sync.Mutex
	text []byte
}

func openTerminal() (*terminal, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock pseudo terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("number of pseudo terminal: %w", err)
	}
	c := &terminal{master: master, name: fmt.Sprintf("/dev/pts/%d", n)}
	c.slave, err = os.OpenFile(c.name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	go c.read()
	return c, nil
}

func (c *terminal) read() {
	var b [4096]byte
	for {
		n, err := c.master.Read(b[:])
		if err != nil {
			return
		}
		c.mu.Lock()
		c.text = append(c.text, b[:n]...)
		c.mu.Unlock()
	}
}

func (c *terminal) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(string(c.text), "\r\n", "\n")
}

func (c *terminal) close() {
	c.slave.Close()
	c.master.Close()
}

// Console returns what was written to /dev/console.
func (m *Machine) Console() string { return m.con.String() }

// Type types on the console.
func (m *Machine) Type(s string) {
	m.t.Helper()
	if _, err := m.con.master.WriteString(s); err != nil {
		m.t.Fatal(err)
	}
}
