package watchdog

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Cause is why the machine was last reset, as far as the watchdog knows: WDIOF_* bits (include/uapi/linux/watchdog.h).
type Cause uint32

// Watchdog tells whether the watchdog itself was it.
func (c Cause) Watchdog() bool { return c&unix.WDIOF_CARDRESET != 0 }

// String says it in words; "" for no known cause.
func (c Cause) String() string {
	var words []string
	for _, w := range []struct {
		bit  Cause
		text string
	}{
		{unix.WDIOF_CARDRESET, "the watchdog reset it"},
		{unix.WDIOF_OVERHEAT, "it was too hot"},
		{unix.WDIOF_FANFAULT, "a fan failed"},
		{unix.WDIOF_EXTERN1, "external relay 1"},
		{unix.WDIOF_EXTERN2, "external relay 2"},
		{unix.WDIOF_POWERUNDER, "the voltage was too low"},
		{unix.WDIOF_POWEROVER, "the voltage was too high"},
	} {
		if c&w.bit != 0 {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, ", ")
}

// BootStatus is why the machine was last reset. Few drivers know; the others answer no cause.
func (d *Device) BootStatus() (Cause, error) {
	n, err := unix.IoctlGetInt(int(d.file.Fd()), unix.WDIOC_GETBOOTSTATUS)
	if err != nil {
		return 0, &Error{"read the boot status", d.file.Name(), supported(err)}
	}
	return Cause(n), nil
}
