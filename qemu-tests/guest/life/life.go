// Package life is that of a test machine's first process: its file systems, its event port, its work, and the power-off.
//
// It owns the events "broken" (with the error) and "end", of which one or both are the last. What the work is, and which signals count, is
// the program's.
package life

import (
	"errors"
	"fmt"
	"os"

	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
)

// Live works and powers the machine off. What goes wrong is said on the console, after the program's name, and on the port.
func Live(name string, work func(port *event.Port) error) {
	if err := live(work); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
	}
	if err := kernel.PowerOff(); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
	}
}

func live(work func(port *event.Port) error) error {
	if err := kernel.Mount(); err != nil {
		return err
	}
	port, err := event.Open()
	if err != nil {
		return err
	}
	if err = work(port); err != nil {
		err = errors.Join(err, port.Emit("broken", map[string]any{"error": err.Error()}))
	}
	return errors.Join(err, port.Emit("end", nil), port.Drain())
}
