package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// failure is the time in which people can help before the watchdog does.
type failure struct {
	since  time.Time // zero: all is well
	mine   bool      // init's own: no orchestrator stays up
	keys   *os.File  // the console, while the screen is init's
	drains time.Time // when to look at the log pipes again
	forced bool      // the reset without a watchdog has been ordered
}

// told hears of the orchestrator's failure screen.
func (f *failure) told(m *machine, q *wire.Failure) {
	switch {
	case !q.Active:
		f.since = time.Time{}
	case f.since.IsZero() || q.Typing:
		f.since = time.Now()
	}
}

// over tells whether the time for people has passed. It does not pass while an
// orchestrator of a crash loop is up: that may prove good.
func (f *failure) over(m *machine, now time.Time) bool {
	if f.mine && m.boss.phase == bossUp {
		return false
	}
	return !f.since.IsZero() && m.settings.failureTime > 0 && now.Sub(f.since) >= m.settings.failureTime
}

// own begins init's own failure: it shows the screen and hears the keyboard.
func (f *failure) own(m *machine, now time.Time) {
	if !f.mine {
		f.mine, f.since, f.drains = true, now, now
	}
	m.con.raw(f.screen(m))
	f.listen(m)
}

const drainEvery = time.Second

func (f *failure) screen(m *machine) string {
	running := 0
	for _, p := range m.procs {
		if !p.boss && p.state != wire.StateExited {
			running++
		}
	}
	s := "\n---- the orchestrator does not stay up " + "--------------------------------------\n" +
		"  It died " + itoa(int(m.boss.deaths)) + " times since the boot; the lines above say how.\n" +
		"  Services are left alone (" + itoa(running) + " run).\n" +
		"  It is tried again every " + seconds(crashPause) + "; press Enter to try now.\n"
	if m.settings.failureTime > 0 {
		s += "  Without success the machine resets " + seconds(m.settings.failureTime) + " after the last key\n" +
			"  (initd.failure-time= on the kernel command line; 0 for never).\n"
	}
	return s + "-----------------------------------------------------------------------------\n"
}

// listen waits for Enter on the console. The goroutine ends when the console
// is closed.
func (f *failure) listen(m *machine) {
	if f.keys != nil {
		return
	}
	fd, err := unix.Open("/dev/console", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	// Only what can be polled: the read of anything else does not end when it
	// is closed, or ends at once.
	f.keys = os.NewFile(uintptr(fd), "/dev/console")
	if f.keys.SetReadDeadline(time.Time{}) != nil {
		f.deaf()
		return
	}
	go func(file *os.File, typed chan<- struct{}) {
		var b [64]byte
		for {
			if n, err := file.Read(b[:]); n == 0 || err != nil {
				return
			}
			select {
			case typed <- struct{}{}:
			default:
			}
		}
	}(f.keys, m.typed)
}

func (f *failure) deaf() {
	if f.keys != nil {
		f.keys.Close()
		f.keys = nil
	}
}

// retyped hears Enter: try again now, and the time for people starts anew.
func (m *machine) retyped() {
	if !m.failure.mine {
		return
	}
	m.failure.since = time.Now()
	if m.boss.phase == bossDown {
		m.boss.at = m.failure.since
	}
}

// ownEnded: an orchestrator proved good.
func (f *failure) ownEnded(m *machine) {
	if f.mine {
		m.note("the orchestrator stays up again")
		f.deaf()
		*f = failure{}
	}
}

// due resets the machine where no watchdog does, and keeps log pipes from
// filling. The keyboard is the orchestrator's while one runs.
func (f *failure) due(m *machine, now time.Time) {
	if !f.mine {
		return
	}
	if m.boss.phase == bossDown {
		f.listen(m)
		if !f.drains.After(now) {
			f.drains = now.Add(drainEvery)
			m.drain()
		}
	} else {
		f.deaf()
	}
	if f.over(m, now) && m.dog.file == nil && !f.forced {
		f.forced = true
		m.note("nobody came: reset")
		m.end(wire.KindReboot, lastGrace)
	}
}

func (f *failure) until(m *machine) time.Time {
	if !f.mine || m.boss.phase != bossDown {
		return time.Time{}
	}
	at := f.drains
	if end := f.since.Add(m.settings.failureTime); m.settings.failureTime > 0 && end.Before(at) && !f.forced && m.dog.file == nil {
		at = end
	}
	return at
}
