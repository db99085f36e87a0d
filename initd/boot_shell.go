package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/step"
	"initd/hw/console"
	"initd/hw/secret"
	"initd/initd/crypt"
)

// shellPath is the program that a shell of the failure menu is.
const shellPath = "/bin/sh"

// MayShell: the appliance file has the hash of a password.
func (m *menuOrders) MayShell() bool { return m.chosen.plan.Shell != "" }

// Shell asks for the password at all consoles and opens a shell at one. That
// it was asked for and opened is in the report.
func (m *menuOrders) Shell(ctx context.Context, at string) (string, error) {
	if _, err := os.Stat(shellPath); err != nil {
		return "", fmt.Errorf("this image has no %s: add a package that brings one (image.packages: [dash])", shellPath)
	}
	f, err := m.askOrLeave(ctx, "Password for a shell")
	if f == nil || err != nil {
		return "", err
	}
	defer f.Close()
	checking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err = m.children.Run(checking, step.Call{Func: "password", Unit: "failure menu", Params: m.chosen.plan.Shell, Files: []*os.File{f}})
	if err != nil {
		m.note("a shell was asked for at " + at + ": " + err.Error())
		return "", err
	}
	m.note("a shell was opened at " + at)
	tty, err := os.OpenFile(at, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", fmt.Errorf("open a shell: %w", err)
	}
	defer tty.Close()
	m.screen.stepAside(true)
	stop := m.keepTyping()
	err = runShell(tty, shellPath)
	stop()
	m.screen.stepAside(false)
	m.note("the shell at " + at + " was left")
	return "", errors.Join(err, m.board.Renew())
}

// keepTyping lets init know that somebody is there, for as long as a shell is
// open: what is typed in it is the shell's alone.
func (m *menuOrders) keepTyping() (stop func()) {
	t, over := time.NewTicker(time.Minute), make(chan struct{})
	go func() {
		defer t.Stop()
		for {
			select {
			case <-t.C:
				m.typed()
			case <-over:
				return
			}
		}
	}()
	return func() { close(over) }
}

// runShell runs program at tty, as the leader of a session that has it as its
// controlling terminal, until it ends.
func runShell(tty *os.File, program string) error {
	if err := console.Sane(tty); err != nil {
		return fmt.Errorf("open a shell: %w", err)
	}
	term := "vt100"
	if name := filepath.Base(tty.Name()); strings.HasPrefix(name, "tty") && strings.Trim(name[3:], "0123456789") == "" {
		term = "linux"
	}
	cmd := exec.Command(program)
	cmd.Args[0] = "-" + filepath.Base(program) // a login shell
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=" + term, "PS1=initd# "}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) { // its last command's status is nobody's error
		return nil
	}
	if err != nil {
		return fmt.Errorf("open a shell: %w", err)
	}
	return nil
}

// passwordChild is the child password: Params is a crypt(3) hash, the one file
// what somebody typed.
func passwordChild(_ context.Context, in *step.ChildInput, hash string) (any, error) {
	if err := secret.ProtectProcess(); err != nil && !errors.Is(err, secret.ErrNotLocked) {
		return nil, err
	}
	if len(in.Files) != 1 {
		return nil, errors.New("no password came with the call")
	}
	b, err := secret.Open(in.Files[0], 4096)
	if err != nil {
		return nil, err
	}
	defer b.Destroy()
	return nil, crypt.Check(hash, b.Bytes())
}
