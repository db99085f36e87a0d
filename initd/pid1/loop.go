package main

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// machine is all that init knows. Only the loop's goroutine touches it; the
// others feed its channels.
type machine struct {
	con      *console
	settings settings
	power    bool // PID 1 of the machine, not of a namespace
	groups   groups
	started  time.Time

	signals  chan os.Signal
	children chan os.Signal // SIGCHLD
	inbox    chan incoming  // from the orchestrator
	stirred  chan uint64    // a stub's pipe has something to say
	typed    chan struct{}  // Enter on the failure screen

	procs   map[uint64]*process
	lastID  uint64
	orphans uint64
	store   map[string]stored
	boss    boss
	dog     dog
	failure failure
	down    down
	notes   []string // for the report; not told yet

	handover *wire.SwitchRoot // asked for; the orchestrator is about to exit
}

// maxNotes bounds what waits for an orchestrator that may never come.
const maxNotes = 64

// note tells the console and, once there is one, the orchestrator.
func (m *machine) note(text string) {
	m.con.say(text)
	if m.boss.phase == bossUp {
		m.boss.link.send(wire.Record{Message: &wire.Event{Kind: wire.EventNote, Text: text}})
		return
	}
	if len(m.notes) < maxNotes {
		m.notes = append(m.notes, text)
	}
}

// debug tells the console, with initd.debug.
func (m *machine) debug(text string) {
	if m.settings.debug {
		m.con.say(text)
	}
}

// loop runs until the machine ends.
func (m *machine) loop() {
	timer := time.NewTimer(0)
	for {
		if wait := time.Until(m.next()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Reset(0)
		}
		m.step(timer.C)
	}
}

// step handles one thing. A programming error in it is told and survived: a
// PID 1 that ends takes the machine with it.
func (m *machine) step(timer <-chan time.Time) {
	defer func() {
		if r := recover(); r != nil {
			text := "programming error"
			if e, ok := r.(error); ok {
				text += ": " + e.Error()
			}
			var stack [4096]byte
			m.con.say(text + "\n" + string(stack[:runtime.Stack(stack[:], false)]))
		}
	}()
	select {
	case <-m.children:
		m.reap()
	case s := <-m.signals:
		m.signalled(s)
	case in := <-m.inbox:
		m.receive(in)
	case id := <-m.stirred:
		if p := m.procs[id]; p != nil {
			m.hear(p)
		}
	case <-m.typed:
		m.retyped()
	case <-timer:
	}
	now := time.Now()
	m.dog.due(m, now)
	m.boss.due(m, now)
	m.failure.due(m, now)
	m.down.due(m, now)
}

// next returns when something is due, if nothing happens before.
func (m *machine) next() time.Time {
	first := time.Now().Add(time.Hour)
	for _, t := range []time.Time{m.dog.at, m.boss.at, m.failure.until(m), m.down.at} {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// reap collects everything that ended. It is the only caller of wait4: a
// second one loses statuses to the first.
func (m *machine) reap() {
	for {
		pid, w, ru, none := waitOne()
		if pid <= 0 {
			m.boss.drained = none
			return
		}
		p := m.byPID(pid)
		if p == nil {
			m.orphans++
			continue
		}
		m.ended(p, w, ru)
	}
}

// waitOne collects one process that ended; none tells that there is no child
// at all.
func waitOne() (pid int, w unix.WaitStatus, ru unix.Rusage, none bool) {
	for {
		pid, err := unix.Wait4(-1, &w, unix.WNOHANG, &ru)
		switch err {
		case unix.EINTR:
			continue
		case nil:
			return pid, w, ru, false
		}
		return 0, w, ru, err == unix.ECHILD
	}
}

func (m *machine) byPID(pid int) *process {
	for _, p := range m.procs {
		if p.pid == pid && p.state != wire.StateExited {
			return p
		}
	}
	return nil
}
