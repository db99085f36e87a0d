package main

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// down is the way down: asked for, taken by the orchestrator, or init's alone.
type down struct {
	pending wire.Kind // asked for; the orchestrator has not taken it
	taken   wire.Kind // the orchestrator is at it
	at      time.Time // when init does it alone
	presses []time.Time
	final   bool // init is at it
}

const (
	askTime      = 15 * time.Second // for the orchestrator to say Going
	extraTime    = 30 * time.Second // on top of what Going named
	maxWithin    = time.Hour
	pressWindow  = 2 * time.Second
	pressLimit   = 7
	orderlyGrace = 1 * time.Second  // from SIGTERM to SIGKILL, all having been stopped before
	lastGrace    = 10 * time.Second // the same when nobody stopped anything
	killGrace    = 2 * time.Second  // from SIGKILL to going on without
	orderlyKill  = 1 * time.Second  // the same where only what cannot be ended is left
	syncTime     = 10 * time.Second
	orderlySync  = 2 * time.Second // the same when the orchestrator has tried before
)

// asks maps signals to what they ask of PID 1; see the package's doc.
func asks(s syscall.Signal) (kind wire.Kind, why string) {
	const rtmin = 34 // glibc's SIGRTMIN, which systemd's tools count from
	switch s {
	case unix.SIGINT:
		return wire.KindReboot, "ctrl-alt-del"
	case unix.SIGTERM, rtmin + 5:
		return wire.KindReboot, signalName(s)
	case unix.SIGUSR1, rtmin + 3:
		return wire.KindHalt, signalName(s)
	case unix.SIGUSR2, rtmin + 4:
		return wire.KindPowerOff, signalName(s)
	case rtmin + 6:
		return wire.KindKExec, signalName(s)
	case unix.SIGPWR:
		return wire.KindPowerOff, "power failure"
	}
	return 0, ""
}

// signalled handles a signal to PID 1.
func (m *machine) signalled(got os.Signal) {
	s, ok := got.(syscall.Signal)
	if !ok {
		return
	}
	kind, why := asks(s)
	if s == unix.SIGPWR {
		m.event(wire.EventPower, 0, why)
	}
	if kind == 0 {
		m.event(wire.EventSignal, uint64(s), signalName(s))
		return
	}
	now := time.Now()
	if s == unix.SIGINT && m.down.pressed(now) {
		m.note("ctrl-alt-del " + itoa(pressLimit) + " times: now")
		m.end(wire.KindReboot, 0)
		return
	}
	m.ask(kind, why, now)
}

func (d *down) pressed(now time.Time) bool {
	kept := d.presses[:0]
	for _, t := range d.presses {
		if now.Sub(t) < pressWindow {
			kept = append(kept, t)
		}
	}
	d.presses = append(kept, now)
	return len(d.presses) >= pressLimit
}

func (m *machine) event(kind wire.EventKind, value uint64, text string) {
	if m.boss.phase == bossUp {
		m.boss.link.send(wire.Record{Message: &wire.Event{Kind: kind, Value: value, Text: text}})
	}
}

// ask passes on a request for a way down. The first one wins until it is
// taken back.
func (m *machine) ask(kind wire.Kind, why string, now time.Time) {
	d := &m.down
	if d.taken != 0 || d.pending != 0 {
		return
	}
	m.con.say(why + ": " + kind.String() + " asked for")
	d.pending, d.at = kind, now.Add(askTime)
	if m.failure.mine && m.boss.phase == bossDown {
		d.at = now // nobody will take it
	}
	m.event(wire.EventAsked, uint64(kind), why)
}

// going hears that the orchestrator takes the machine down.
func (d *down) going(q *wire.Going, now time.Time) error {
	if q.Kind == 0 {
		d.pending, d.taken, d.at = 0, 0, time.Time{}
		return nil
	}
	if !q.Kind.Valid() {
		return unix.EINVAL
	}
	within := min(time.Duration(q.Within)*time.Millisecond, maxWithin)
	d.pending, d.taken, d.at = 0, q.Kind, now.Add(within+extraTime)
	return nil
}

// under tells whether the orchestrator takes the machine down, and has time
// left for it: its engine has ended, and no heartbeat comes any more.
func (d *down) under(now time.Time) bool { return d.taken != 0 && now.Before(d.at) }

// lost hears that an orchestrator died: what it was at is asked for again, of
// the next.
func (d *down) lost(m *machine, now time.Time) {
	if d.taken == 0 {
		return
	}
	d.pending, d.taken = d.taken, 0
	if at := now.Add(askTime); at.Before(d.at) {
		d.at = at
	}
}

// due ends what nobody else ends.
func (d *down) due(m *machine, now time.Time) {
	kind := d.pending | d.taken
	if kind == 0 || d.final || d.at.After(now) {
		return
	}
	m.note("the orchestrator did not take the machine down: " + kind.String() + " without it")
	m.end(kind, lastGrace)
}

// end ends everything that runs, writes the caches within a bound, and makes
// the last call. It does not return where the kernel obeys.
func (m *machine) end(kind wire.Kind, grace time.Duration) {
	if m.down.final {
		return
	}
	m.down.final = true
	m.boss.unlink()
	m.con.say(kind.String())
	kill, sync := killGrace, syncTime
	if grace == orderlyGrace {
		kill, sync = orderlyKill, orderlySync
	}
	if grace > 0 {
		_ = unix.Kill(-1, unix.SIGTERM)
		_ = unix.Kill(-1, unix.SIGCONT) // a stopped one hears TERM only then
		m.await(grace, m.alone)
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	if !m.await(kill, m.alone) {
		m.con.say("some processes do not end; going on without them")
	}
	m.sync(sync)
	if kind == wire.KindHalt || kind == wire.KindKExec {
		_ = m.dog.close() // an armed one would end the halt, or hit the next kernel
	}
	m.dog.feed()
	m.await(100*time.Millisecond, func() bool { return len(m.con.lines) == 0 })
	for _, cmd := range lastCalls(kind) {
		err := unix.Reboot(cmd)
		m.con.say("reboot(2): " + errorText(err))
	}
	m.await(time.Second, func() bool { return len(m.con.lines) == 0 })
	os.Exit(1) // the kernel panics and restarts
}

func errorText(err error) string {
	if err == nil {
		return "returned"
	}
	return err.Error()
}

// lastCalls are the commands of reboot(2) to try for a way down, in order.
func lastCalls(kind wire.Kind) []int {
	switch kind {
	case wire.KindPowerOff:
		return []int{unix.LINUX_REBOOT_CMD_POWER_OFF, unix.LINUX_REBOOT_CMD_HALT}
	case wire.KindHalt:
		return []int{unix.LINUX_REBOOT_CMD_HALT}
	case wire.KindKExec:
		return []int{unix.LINUX_REBOOT_CMD_KEXEC, unix.LINUX_REBOOT_CMD_RESTART}
	}
	return []int{unix.LINUX_REBOOT_CMD_RESTART}
}

// alone reaps and tells whether init is the last process.
func (m *machine) alone() bool {
	for {
		pid, _, _, none := waitOne()
		if pid <= 0 {
			return none
		}
	}
}

// await feeds the watchdog until done, at most for limit.
func (m *machine) await(limit time.Duration, done func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	feed := time.NewTicker(time.Second)
	defer feed.Stop()
	look := time.NewTicker(20 * time.Millisecond) // the console's queue has no event
	defer look.Stop()
	for !done() {
		select {
		case <-m.children:
		case <-look.C:
		case in := <-m.inbox:
			wire.CloseAll(in.fds)
		case <-m.signals:
		case <-m.stirred:
		case <-feed.C:
			m.dog.feed()
		case <-end.C:
			return done()
		}
	}
	return true
}

// sync writes the caches, in a stub: it may never return.
func (m *machine) sync(limit time.Duration) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	n := uintptr(null)
	pidfd := -1
	_, err = fork([]string{stubName, "sync"}, []uintptr{n, n, n}, &pidfd)
	if err != nil {
		m.con.say("sync: " + err.Error())
		return
	}
	defer unix.Close(pidfd)
	written := func() bool {
		m.alone()
		err := unix.PidfdSendSignal(pidfd, 0, nil, 0)
		return errors.Is(err, unix.ESRCH)
	}
	if !m.await(limit, written) {
		m.con.say("caches were not written within " + seconds(limit) + ": a device does not answer")
	}
}
