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
	alive time.Time // last heartbeat of any orchestrator; zero: none yet
	asked bool      // what ended the boot before was asked for
}

// Timeouts in seconds: what drivers commonly have, and what we ask for at
// start, which leaves time for a new orchestrator.
const dogTimeout = 60

func (d *dog) openFirst(m *machine) {
	if m.settings.watchdog == "" {
		return
	}
	if err := d.open(m, m.settings.watchdog, dogTimeout); err != nil && err != unix.ENOENT {
		m.note("watchdog " + m.settings.watchdog + ": " + err.Error())
	}
}

func (d *dog) open(m *machine, device string, timeout int) error {
	fd, err := unix.Open(device, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if d.file != nil {
		d.file.Close()
	}
	d.file = os.NewFile(uintptr(fd), device)
	d.timeout(m, timeout)
	if !d.asked {
		d.asked = true
		if why, err := unix.IoctlGetInt(fd, unix.WDIOC_GETBOOTSTATUS); err == nil && why > 0 && why&unix.WDIOF_CARDRESET != 0 {
			m.note("the boot before this one was ended by the watchdog " + device)
		}
	}
	return nil
}

// timeout sets the timeout as near as the driver can, and how often to feed.
func (d *dog) timeout(m *machine, seconds int) {
	if t := int(m.settings.watchdogTime / time.Second); t > 0 {
		seconds = t
	}
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
	case q.Device != "" && m.settings.watchdog == "":
		return unix.EPERM // initd.watchdog=off
	case q.Device == usualDog: // as everybody calls it who knows no better
		return d.open(m, m.settings.watchdog, int(q.Timeout))
	case q.Device != "":
		return d.open(m, q.Device, int(q.Timeout))
	case d.file == nil:
		return unix.ENODEV
	}
	d.timeout(m, int(q.Timeout))
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
	if d.quiet {
		d.quiet = false
		m.note("watchdog is fed again")
	}
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
	alive, silence := m.dog.alive, m.boss.silence
	if alive.IsZero() { // the first one is on its way
		alive, silence = m.started, startTime
	}
	switch {
	case m.failure.over(m, now):
		return "the failure lasts longer than " + seconds(m.settings.failureTime)
	case m.failure.mine:
		return ""
	case m.down.under(now):
		return ""
	case now.Sub(alive) >= silence:
		// Also while another orchestrator starts: that one has to beat first.
		return "no heartbeat for " + seconds(now.Sub(alive))
	}
	return ""
}
