// Selftest is the /init of the harness's own test: it says on the event port what the machine feels (disks that come and
// go, ctrl-alt-del, the power button, frames on the wire) and does what it is told there. It proves the harness and
// tests nothing of initd.
package main

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/plan"
)

func main() {
	// Before anything else: a signal that a Go program in the first process does not handle kills it.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	if err := run(interrupts); err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
	}
	if err := kernel.PowerOff(); err != nil {
		fmt.Fprintln(os.Stderr, "selftest:", err)
	}
}

func run(interrupts <-chan os.Signal) error {
	if err := kernel.Mount(); err != nil {
		return err
	}
	port, err := event.Open()
	if err != nil {
		return err
	}
	defer port.Drain() //nolint:errcheck // the machine goes off either way
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	// Ctrl-alt-del as a signal to the first process, instead of a reset.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("disable ctrl-alt-del: %w", err)
	}
	failed := make(chan error)
	go func() { failed <- watchDisks(port) }()
	go func() { failed <- watchWire(port) }()
	go watchConsole(port)
	go func() {
		for range interrupts {
			port.Emit("ctrl-alt-del", nil) //nolint:errcheck // the test misses it
		}
	}()
	told := make(chan error)
	go func() { told <- obey(port) }()
	if err := port.Emit("up", nil); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case err := <-told:
		return err
	}
}

// command is what the test tells.
type command struct {
	Do   string `json:"do"`   // "echo", "send", "panic", "oops", "watchdog", "poweroff", "reboot"
	Text string `json:"text"` // echoed, or sent as a frame's content
}

func obey(port *event.Port) error {
	for {
		var c command
		if err := port.Receive(&c); err != nil {
			return err
		}
		switch c.Do {
		case "echo":
			if err := port.Emit("echo", map[string]any{"text": c.Text}); err != nil {
				return err
			}
		case "send":
			if err := send(c.Text); err != nil {
				return err
			}
		case "panic":
			if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
				return err
			}
		case "watchdog":
			// Opening starts it; nobody feeds it.
			f, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			const seconds = 2
			if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
				return fmt.Errorf("/dev/watchdog: set its timeout: %w", err)
			}
		case "poweroff":
			return nil
		case "reboot":
			return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		default:
			return fmt.Errorf("told to %q, which it cannot", c.Do)
		}
	}
}
