package clock

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chrony runs Debian's time server on loopback. It leaves this machine's clock alone (-x).
func chrony(t *testing.T, config ...string) (address string) {
	t.Helper()
	program, err := exec.LookPath("chronyd")
	if err != nil {
		if program = "/usr/sbin/chronyd"; !exists(program) {
			t.Fatal("chronyd is missing: install the Debian package chrony")
		}
	}
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.LocalAddr().String()
	_, port, _ := net.SplitHostPort(address)
	free.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "chrony.conf")
	text := strings.Join(append([]string{
		"port " + port, "bindaddress 127.0.0.1", "allow 127.0.0.1", "cmdport 0", "bindcmdaddress /", "pidfile " + filepath.Join(dir, "pid"),
	}, config...), "\n")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// -d: in the foreground, the log on standard error.
	cmd := exec.CommandContext(t.Context(), program, "-d", "-x", "-u", "root", "-f", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("chrony said:\n%s", strings.Join(seen, "\n"))
		}
	})
	for s := bufio.NewScanner(log); s.Scan(); {
		seen = append(seen, s.Text())
		if strings.Contains(s.Text(), "Disabled control of system clock") {
			return address
		}
	}
	t.Fatalf("chrony ended: %q", seen)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Both read the same clock, so the offset is nothing, as far as the sample itself promises.
func TestChronyAgreesWithItself(t *testing.T) {
	s, err := Query(deadline(t), []string{chrony(t, "local stratum 3")})
	if err != nil {
		t.Fatal(err)
	}
	if !near(s, 0) || s.Stratum != 3 || s.Disputed {
		t.Errorf("got %+v, want no offset of a server of stratum 3", s)
	}
}

func TestChronyWithoutASourceIsNotBelieved(t *testing.T) {
	const want = "its own clock is not synchronised"
	address := chrony(t)
	all := deadline(t)
	for { // it opens its port a moment after it said that it started
		ctx, cancel := context.WithTimeout(all, 1500*time.Millisecond)
		_, err := Query(ctx, []string{address})
		cancel()
		var none *NoServerError
		switch {
		case errors.As(err, &none) && strings.HasSuffix(err.Error(), want):
			return
		case err == nil || all.Err() != nil:
			t.Fatalf("got %v, want %q", err, want)
		}
	}
}
