// Package watchdog feeds a hardware watchdog, and hands one over armed.
//
// It owns /dev/watchdogN while it is open: its timeout, its keepalives, the magic close. It needs a driver of the kernel's
// watchdog core (Documentation/watchdog/watchdog-api.rst). It never decides when to feed (that is the business of whoever
// proves to be alive), never starts a goroutine, and links neither fmt nor net nor JSON: PID 1 has to stay small.
package watchdog

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoWayOut says that the watchdog cannot be stopped any more once it is open: the kernel was built, or the driver
// loaded, with nowayout. Leave it with a timeout that is long enough.
var ErrNoWayOut = errors.New("this watchdog cannot be stopped (nowayout); raise its timeout and leave it armed")

// Error is a failed operation on one device.
type Error struct {
	Op, Device string
	Err        error
}

func (e *Error) Error() string { return "watchdog " + e.Device + ": " + e.Op + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Device is an open, and therefore armed, watchdog. It is not safe for concurrent use.
type Device struct {
	file     *os.File
	identity string
	options  uint32 // WDIOF_*
	class    string // its directory in sysfs; "" if there is none
}

// Open opens path (/dev/watchdog0), which arms it with the timeout that its driver has: feed it from now on. sys is where
// sysfs is mounted. A device that somebody else feeds is an error that wraps EBUSY.
func Open(path, sys string) (*Device, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, &Error{"open", path, &busyError{}}
	case err != nil:
		return nil, &Error{"open", path, err}
	}
	return From(os.NewFile(uintptr(fd), path), sys)
}

// busyError is EBUSY in words that say what to do.
type busyError struct{}

func (*busyError) Error() string {
	return "another process feeds it: stop that one, or leave it the device"
}
func (*busyError) Unwrap() error { return unix.EBUSY }

// From takes over a descriptor that another process opened and kept armed. file's name is that of the device. If this
// fails, file is closed, and the watchdog runs on: open it again.
func From(file *os.File, sys string) (*Device, error) {
	info, err := unix.IoctlGetWatchdogInfo(int(file.Fd()))
	if err != nil {
		file.Close()
		return nil, &Error{"ask what it is", file.Name(), err}
	}
	return &Device{
		file: file, identity: unix.ByteSliceToString(info.Identity[:]), options: info.Options,
		class: classDirectory(int(file.Fd()), sys),
	}, nil
}

// Identity is what the driver calls the hardware.
func (d *Device) Identity() string { return d.identity }

// File is the descriptor, for whoever keeps it over an exec. Closing it does not stop the watchdog.
func (d *Device) File() *os.File { return d.file }

// CanStop tells whether Stop can disarm the watchdog, as far as it shows (CONFIG_WATCHDOG_SYSFS).
func (d *Device) CanStop() bool { return d.attribute("nowayout") != "1" }

// Feed puts the reset off for another timeout.
func (d *Device) Feed() error {
	if err := unix.IoctlWatchdogKeepalive(int(d.file.Fd())); err != nil {
		return &Error{"feed", d.file.Name(), err}
	}
	return nil
}

// SetTimeout asks for a timeout, in whole seconds rounded up, and returns the one that the driver granted: it may be
// another one. Setting it feeds too. Drivers that cannot set it answer an error that wraps errors.ErrUnsupported.
func (d *Device) SetTimeout(want time.Duration) (time.Duration, error) {
	seconds := int((want + time.Second - 1) / time.Second)
	// The kernel writes the granted value back, which this wrapper does not return; so it is asked for.
	if err := unix.IoctlSetPointerInt(int(d.file.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, &Error{"set a timeout of " + strconv.Itoa(seconds) + " s", d.file.Name(), supported(err)}
	}
	return d.Timeout()
}

// Timeout is how long after the last Feed the machine is reset.
func (d *Device) Timeout() (time.Duration, error) {
	return d.seconds("read the timeout", unix.WDIOC_GETTIMEOUT)
}

// TimeLeft is how long there is until the reset; many drivers do not tell (errors.ErrUnsupported).
func (d *Device) TimeLeft() (time.Duration, error) {
	return d.seconds("read the time left", unix.WDIOC_GETTIMELEFT)
}

func (d *Device) seconds(op string, request uint) (time.Duration, error) {
	n, err := unix.IoctlGetInt(int(d.file.Fd()), request)
	if err != nil {
		return 0, &Error{op, d.file.Name(), supported(err)}
	}
	return time.Duration(n) * time.Second, nil
}

// supported makes one error of the two with which drivers say that they do not know a request.
func supported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return errors.ErrUnsupported
	}
	return err
}

// Stop disarms and closes the watchdog, by the magic character before the close, and makes sure that it worked, as far as
// it shows. ErrNoWayOut if that is not possible: the device is open and armed then, as before.
func (d *Device) Stop() error {
	name := d.file.Name()
	if !d.CanStop() {
		return &Error{"stop", name, ErrNoWayOut}
	}
	if _, err := d.file.Write([]byte{'V'}); err != nil {
		return &Error{"stop", name, err}
	}
	if err := d.file.Close(); err != nil {
		return &Error{"stop", name, err}
	}
	if d.attribute("state") == "active" {
		return &Error{"stop", name, errors.New("it is still running: open and feed it again")}
	}
	return nil
}

// Leave closes the watchdog and leaves it armed for a successor, which has timeout from now to open and feed it. It
// returns the timeout that was granted (a driver that cannot set one keeps its own), or 0 if closing disarmed it: drivers
// without the magic close stop at every close (watchdog_release in drivers/watchdog/watchdog_dev.c).
func (d *Device) Leave(timeout time.Duration) (time.Duration, error) {
	granted, err := d.SetTimeout(timeout)
	if errors.Is(err, errors.ErrUnsupported) {
		granted, err = d.Timeout()
	}
	if err != nil {
		return 0, err
	}
	if err := d.Feed(); err != nil {
		return 0, err
	}
	if err := d.file.Close(); err != nil {
		return 0, &Error{"leave", d.file.Name(), err}
	}
	if d.options&unix.WDIOF_MAGICCLOSE == 0 && d.CanStop() {
		return 0, nil
	}
	return granted, nil
}
