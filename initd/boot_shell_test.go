package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAShellHasItsConsoleForItself(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	done := make(chan error, 1)
	go func() { done <- runShell(tty, "/bin/sh") }()
	// The controlling terminal is there: /dev/tty opens for the shell only then.
	if _, err := master.WriteString("echo a $((6*7)) >/dev/tty; exit 3\n"); err != nil {
		t.Fatal(err)
	}
	if err := master.SetReadDeadline(time.Now().Add(hang)); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for !strings.Contains(seen, "a 42\r") {
		var b [4096]byte
		n, err := master.Read(b[:])
		if err != nil {
			t.Fatalf("the shell shows %q: %v", seen, err)
		}
		seen += string(b[:n])
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hang):
		t.Fatal("the shell does not end")
	}
}
