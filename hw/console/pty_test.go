package console

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hang is a guard, never a measure.
const hang = time.Minute

// typist is the people's side of a pseudo terminal, tty the machine's.
type typist struct {
	t      *testing.T
	master *os.File
	tty    *os.File
	seen   strings.Builder
}

func newTypist(t *testing.T) *typist {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); tty.Close() })
	return &typist{t: t, master: master, tty: tty}
}

func (p *typist) types(s string) {
	p.t.Helper()
	if _, err := p.master.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits until text has shown on the screen, and returns everything up to there that showed since the last call.
func (p *typist) sees(text string) string {
	p.t.Helper()
	if err := p.master.SetReadDeadline(time.Now().Add(hang)); err != nil {
		p.t.Fatal(err)
	}
	for {
		all := p.seen.String()
		if i := strings.Index(all, text); i >= 0 {
			p.seen.Reset()
			p.seen.WriteString(all[i+len(text):])
			return all[:i+len(text)]
		}
		var b [4096]byte
		n, err := p.master.Read(b[:])
		if err != nil {
			p.t.Fatalf("waiting for %q on the screen: %v; it shows %q", text, err, all)
		}
		p.seen.Write(b[:n])
	}
}

// settings are the terminal's.
func (p *typist) settings() unix.Termios {
	p.t.Helper()
	var set *unix.Termios
	raw, err := p.tty.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(err, raw.Control(func(fd uintptr) { set, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })); err != nil {
		p.t.Fatal(err)
	}
	return *set
}

// stop fills the terminal's buffers, as a serial line does that nobody reads.
func (p *typist) stop() {
	p.t.Helper()
	fd, err := unix.Open(p.tty.Name(), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		if _, err := unix.Write(fd, []byte(strings.Repeat("x", 1000))); errors.Is(err, unix.EAGAIN) {
			// The driver moves what is written to the reader's side later, which makes room again.
			room := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(room, 100); n == 0 && err == nil {
				return
			}
		} else if err != nil {
			p.t.Fatal(err)
		}
	}
}
