package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// dog feeds the hardware watchdog as long as the orchestrator's own loop
// turns. Source: Documentation/watchdog/watchdog-api.rst.
type dog struct {
	file  *os.File
	every time.Duration
	at    time.Time // of the next feed
	quiet bool      // it was said that feeding stopped
}

// Timeouts in seconds: what drivers commonly have, and what we ask for at
// start, which leaves time for a new orchestrator.
const dogTimeout = 60

func (d *dog) openFirst(m *machine) {
	if m.settings.watchdog == "" {
		return
	}
	if err := d.open(m.settings.watchdog, dogTimeout); err != nil && err != unix.ENOENT {
		m.note("watchdog " + m.settings.watchdog + ": " + err.Error())
	}
}

func (d *dog) open(device string, timeout int) error {
	fd, err := unix.Open(device, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if d.file != nil {
		d.file.Close()
	}
	d.file = os.NewFile(uintptr(fd), device)
	d.timeout(timeout)
	return nil
}

// timeout sets the timeout as near as the driver can, and how often to feed.
func (d *dog) timeout(seconds int) {
	fd := int(d.file.Fd())
	if seconds > 0 {
		// A driver without this keeps its own, which the next call tells.
		_ = unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds)
	}
	if n, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT); err == nil && n > 0 {
		seconds = n
	}
	if seconds <= 0 {
		seconds = dogTimeout
	}
	d.every = max(time.Duration(seconds)*time.Second/4, time.Second/2)
	d.at = time.Now()
}

// set carries out the orchestrator's wish.
func (d *dog) set(m *machine, q *wire.Watchdog) error {
	switch {
	case q.Close:
		return d.close()
	case q.Device != "":
		return d.open(q.Device, int(q.Timeout))
	case d.file == nil:
		return unix.ENODEV
	}
	d.timeout(int(q.Timeout))
	return nil
}

// close disarms: the magic character says that this is no accident.
func (d *dog) close() error {
	if d.file == nil {
		return nil
	}
	_, err := d.file.WriteString("V")
	d.file.Close()
	*d = dog{}
	return err
}

// leaveTimeouts are what a watchdog that cannot be stopped is asked for at the
// hand-over, in seconds, the longest first: whoever feeds it next has to come
// within. Drivers refuse what they cannot count.
var leaveTimeouts = [...]int{600, 300, 180, 120}

// leave disarms for the next init, whose own business the watchdog is from
// then on. One that cannot be stopped (nowayout) goes on with a long timeout,
// and the orchestrator beside that init feeds it.
func (d *dog) leave(m *machine) {
	if d.file == nil {
		return
	}
	for _, s := range leaveTimeouts {
		if unix.IoctlSetPointerInt(int(d.file.Fd()), unix.WDIOC_SETTIMEOUT, s) == nil {
			break
		}
	}
	d.feed()
	if err := d.close(); err != nil {
		m.note("close the watchdog: " + err.Error())
	}
}

// due feeds, if whoever has to be alive is.
func (d *dog) due(m *machine, now time.Time) {
	if d.file == nil || d.at.After(now) {
		return
	}
	d.at = now.Add(d.every)
	if why := m.starving(now); why != "" {
		if !d.quiet {
			m.note("watchdog is not fed: " + why)
		}
		d.quiet = true
		return
	}
	d.quiet = false
	d.feed()
}

// feed writes to the device; any byte but the magic one counts.
func (d *dog) feed() {
	if d.file != nil {
		_, _ = unix.Write(int(d.file.Fd()), []byte{0})
	}
}

// starving says why the watchdog must not be fed now, or "".
func (m *machine) starving(now time.Time) string {
	b := &m.boss
	silence := b.silence
	if b.phase != bossUp {
		silence = startTime
	}
	switch {
	case m.failure.over(m, now):
		return "the failure lasts longer than " + seconds(m.settings.failureTime)
	case m.failure.mine:
		return ""
	case now.Sub(b.beat) >= silence:
		return "no heartbeat for " + seconds(now.Sub(b.beat))
	}
	return ""
}
