package main

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// receive handles what a link received. Whatever it is, init goes on.
func (m *machine) receive(in incoming) {
	defer wire.CloseAll(in.fds)
	b := &m.boss
	if in.link != b.link || b.link == nil {
		return // of a generation that leads no more
	}
	if gone(in.err) {
		// It may be about to exit; if not, it is of no use without its link.
		b.unlink()
		if b.phase == bossUp || b.phase == bossStarting {
			b.phase, b.at = bossKilled, time.Now().Add(killTime)
			if b.proc != nil {
				_ = unix.PidfdSendSignal(b.proc.pidfd, unix.SIGKILL, nil, 0)
			}
		}
		return
	}
	if in.err != nil {
		m.answer(in.rec.Seq, unix.EBADMSG, "")
		return
	}
	if hello, ok := in.rec.Message.(*wire.Hello); ok {
		b.beat = time.Now()
		m.hello(in.rec.Seq, hello)
		return
	}
	if b.phase != bossUp && b.phase != bossLeaving {
		m.answer(in.rec.Seq, unix.EPROTO, "say Hello first")
		return
	}
	m.request(in.rec, in.fds)
	if b.phase == bossUp {
		b.next(m, time.Now())
	}
}

// request handles one record of an orchestrator that has said Hello.
func (m *machine) request(rec wire.Record, fds []int) {
	var err error
	switch q := rec.Message.(type) {
	case *wire.Heartbeat:
		// Nothing else is a sign of life: other records come from others than the
		// engine's own loop, which may be blocked.
		m.boss.beat = time.Now()
		m.dog.alive = m.boss.beat
		return
	case *wire.Answer:
		return // to an Event; what counts is Going
	case *wire.Spawn:
		err = m.spawnService(rec.Seq, q, fds)
	case *wire.Signal:
		err = m.signalService(q)
	case *wire.Ack:
		err = m.acknowledge(q.ID)
	case *wire.Store:
		err = m.keep(q, fds)
	case *wire.Fetch:
		err = m.fetch(rec.Seq, q.Name)
	case *wire.Drop:
		err = m.drop(q.Name)
	case *wire.List:
		m.list(rec.Seq)
	case *wire.Watchdog:
		err = m.dog.set(m, q)
	case *wire.Failure:
		m.failure.told(m, q)
	case *wire.Going:
		err = m.down.going(q, time.Now())
	case *wire.Reboot:
		if q.Kind.Valid() {
			m.answer(rec.Seq, 0, "")
			m.end(q.Kind, orderlyGrace)
		}
		err = unix.EINVAL
	case *wire.Restart:
		err = m.boss.restart(q.Path)
	case *wire.SwitchRoot:
		err = m.askedToSwitchRoot(q)
	default:
		err = unix.EOPNOTSUPP
	}
	switch rec.Message.(type) {
	case *wire.Spawn, *wire.Fetch:
		if err == nil {
			return // answered
		}
	}
	errno, text := syscall.Errno(0), ""
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	if err != nil && err != error(errno) {
		text = err.Error()
	}
	m.answer(rec.Seq, errno, text)
}

func (m *machine) answer(seq uint64, errno syscall.Errno, text string) {
	if seq != 0 && m.boss.link != nil {
		m.boss.link.send(wire.Record{Seq: seq, Message: &wire.Answer{Errno: uint32(errno), Text: text}})
	}
}

// hello makes the orchestrator the leader and hands on what is kept.
func (m *machine) hello(seq uint64, h *wire.Hello) {
	b := &m.boss
	v, ok := wire.Agree(h.Min, h.Max)
	if !ok {
		m.note("orchestrator of generation " + itoa(int(b.gen)) + " speaks versions " + itoa(int(h.Min)) + " to " + itoa(int(h.Max)) +
			", init " + itoa(wire.MinVersion) + " to " + itoa(wire.MaxVersion))
		m.answer(seq, unix.EPROTONOSUPPORT, "init and initd have no version of their protocol in common")
		return
	}
	b.silence = time.Duration(h.Silence) * time.Millisecond
	if b.silence == 0 {
		b.silence = silenceTime
	}
	if b.phase == bossStarting {
		b.phase, b.since = bossUp, b.beat
	}
	b.next(m, b.beat)
	r := &wire.Hello{
		Min: wire.MinVersion, Max: wire.MaxVersion, Version: v, Generation: b.gen, Deaths: b.deaths, Orphans: m.orphans,
		Pending: m.down.pending, Busy: uint32(len(b.busy)), Silence: uint32(b.silence / time.Millisecond), Program: "init " + version,
	}
	for _, p := range b.busy[:min(len(b.busy), wire.MaxBusy)] {
		r.BusyPIDs = append(r.BusyPIDs, uint32(p))
	}
	if m.groups != "" {
		r.Capabilities |= wire.CapCgroup
	}
	if m.dog.file != nil {
		r.Capabilities |= wire.CapWatchdog
	}
	if m.power {
		r.Capabilities |= wire.CapPower
	}
	for _, p := range m.procs {
		if p.exited != nil {
			r.Unacked++
		}
	}
	if len(r.Program) > wire.MaxName {
		r.Program = r.Program[:wire.MaxName]
	}
	b.link.send(wire.Record{Seq: seq, Message: r})
	for _, p := range m.inOrder() {
		if p.exited != nil {
			m.tell(p.exited, p)
		}
	}
	for _, text := range m.notes {
		b.link.send(wire.Record{Message: &wire.Event{Kind: wire.EventNote, Text: text}})
	}
	m.notes = nil
}

// inOrder returns the services, oldest first.
func (m *machine) inOrder() []*process {
	var list []*process
	for id := uint64(1); id <= m.lastID && len(list) < len(m.procs); id++ {
		if p := m.procs[id]; p != nil && !p.boss {
			list = append(list, p)
		}
	}
	return list
}

func (m *machine) spawnService(seq uint64, q *wire.Spawn, fds []int) error {
	switch {
	case len(fds) == 0:
		return unix.EBADF
	case q.Name == "" || !validGroup(q.Group):
		return unix.EINVAL
	case m.named(q.Name) != nil:
		return unix.EEXIST
	case m.down.final:
		return unix.ESHUTDOWN
	}
	p, err := m.spawn(q.Name, q.Group, fds[0], fds[1:])
	if err != nil {
		return err
	}
	m.boss.link.send(wire.Record{Seq: seq, Message: &wire.Spawned{ID: p.id, PID: uint32(p.pid), Started: p.started}}, p.pidfd)
	return nil
}

func (m *machine) signalService(q *wire.Signal) error {
	p := m.procs[q.ID]
	switch {
	case p == nil || p.boss:
		return unix.ENOENT
	case q.Whole:
		return m.groups.signal(p.group, syscall.Signal(q.Number))
	case p.state == wire.StateExited:
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(p.pidfd, syscall.Signal(q.Number), nil, 0)
}

func (m *machine) acknowledge(id uint64) error {
	p := m.procs[id]
	switch {
	case p == nil || p.boss:
		return unix.ENOENT
	case p.exited == nil:
		return unix.EBUSY
	}
	m.forget(p)
	return nil
}

func (m *machine) list(seq uint64) {
	for _, p := range m.inOrder() {
		s := &wire.Service{ID: p.id, PID: uint32(p.pid), Name: p.name, Group: p.group, State: p.state, Started: p.started}
		if p.pidfd >= 0 {
			m.boss.link.send(wire.Record{Seq: seq, Message: s}, p.pidfd)
		} else {
			m.boss.link.send(wire.Record{Seq: seq, Message: s})
		}
	}
	for name, d := range m.store {
		m.boss.link.send(wire.Record{Seq: seq, Message: &wire.Stored{Name: name, Flags: d.flags}})
	}
}

// restart lets the orchestrator go and start anew.
func (b *boss) restart(path string) error {
	if path != "" && path[0] != '/' {
		return unix.EINVAL
	}
	b.paths.upgrade(path)
	b.phase, b.at = bossLeaving, time.Now().Add(leaveTime)
	return nil
}
