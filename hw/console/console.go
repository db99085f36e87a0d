// Package console speaks to the people at a machine: it writes to the active consoles without ever waiting for them, and
// asks a question on all of them at once.
//
// It owns which consoles are active, the bounded queue before each, the terminal settings while somebody types a secret,
// and the editing of what is typed. It needs ttys (tty_ioctl(4)) and, to prompt, /proc. It never logs or echoes what was
// typed, never takes a controlling terminal, and sends no escape code but the one question of Answers.
package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Columns is the width that texts for consoles are made for: a serial line has no size to ask for.
const Columns = 80

// OpenActive opens the active consoles to ask at, without ever waiting for one; those that cannot be opened are left out.
// The caller closes them.
func OpenActive(root string) ([]*os.File, error) {
	names, err := Active(root)
	if err != nil {
		return nil, err
	}
	var open []*os.File
	for _, n := range names {
		f, err := os.OpenFile(n, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			open = append(open, f)
		}
	}
	return open, nil
}

// Active lists the device nodes of the active consoles, the preferred one last, from root/sys/class/tty/console/active
// (show_cons_active in drivers/tty/tty_io.c). "/dev/tty0" is whichever virtual terminal is in front. Empty if the kernel
// was given none (console=null, or no driver).
func Active(root string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(root, "sys/class/tty/console/active"))
	if err != nil {
		return nil, fmt.Errorf("list consoles: %w", err)
	}
	var list []string
	for _, name := range strings.Fields(string(b)) {
		list = append(list, "/dev/"+name)
	}
	return list, nil
}
