package console

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestActive(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/class/tty/console")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "active"), []byte("tty0 ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Active(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/dev/tty0", "/dev/ttyS0"}, got); diff != "" {
		t.Errorf("consoles (-want +got):\n%s", diff)
	}
}

// slow holds every write until it is let go.
type slow struct {
	gate chan struct{}
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.gate
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}
func (s *slow) Close() error { return nil }

func TestAStoppedConsoleLosesLinesAndIsToldSo(t *testing.T) {
	s := &slow{gate: make(chan struct{})}
	w := New(s)
	for i := range 2 * queueSize {
		w.Line(fmt.Sprintf("line %d \x1b[31m", i)) // returns at once, or the test hangs
	}
	close(s.gate)
	w.Line("after")
	w.Close()
	<-w.Done()
	got := s.buf.String()
	if !strings.Contains(got, "lines were lost here") && !strings.HasSuffix(got, "after\r\n") {
		t.Errorf("neither the loss nor the last line shows: %q", got[max(0, len(got)-200):])
	}
	if strings.Contains(got, "\x1b") {
		t.Error("an escape code went through")
	}
}

// pty opens a pseudo terminal: the side that people type at, and the other.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); s.Close() })
	return m, s
}

func TestTheFirstAnswerWinsAndNothingIsEchoed(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m1, s1 := pty(t)
	m2, s2 := pty(t)
	type result struct {
		a   Answer
		err error
	}
	got := make(chan result, 1)
	go func() {
		a, err := Prompt(ctx, []*os.File{s1, s2}, "Passphrase for tank0")
		got <- result{a, err}
	}()
	seen := make([]byte, 200)
	n, err := m2.Read(seen)
	if err != nil || !strings.Contains(string(seen[:n]), "Passphrase for tank0: ") {
		t.Fatalf("second terminal: got %q, %v", seen[:n], err)
	}
	if n, err = m1.Read(seen); err != nil || !strings.Contains(string(seen[:n]), "Passphrase for tank0: ") {
		t.Fatalf("first terminal: got %q, %v", seen[:n], err)
	}
	if _, err := m1.WriteString("half an answer"); err != nil {
		t.Fatal(err)
	}
	if _, err := m2.WriteString("wrong\x15opem\x7fn sesame\r"); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.a.Secret.Destroy()
	if string(r.a.Secret.Bytes()) != "open sesame" || r.a.Console != s2.Name() {
		t.Errorf("got an answer of %d bytes from %s, want the one typed at %s", r.a.Secret.Len(), r.a.Console, s2.Name())
	}
	if n, err = m2.Read(seen); err != nil || strings.Trim(string(seen[:n]), "\r\n") != "" {
		t.Errorf("echo: got %q, %v; want only a new line", seen[:n], err)
	}
}

func TestAPromptEndsWithItsContext(t *testing.T) {
	_, s := pty(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Prompt(ctx, []*os.File{s}, "Anybody"); err == nil {
		t.Error("no error")
	}
}
