package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// bossPhase is where the orchestrator is in its life.
type bossPhase int

const (
	bossDown     bossPhase = iota // to be started at boss.at
	bossClearing                  // what the last one left is killed, until boss.at
	bossStarting                  // spawned; no Hello yet, and none later than boss.at
	bossUp                        // heard; to be heard again until boss.at
	bossLeaving                   // wants to be started anew; is to exit until boss.at
	bossKilled                    // killed; is to end until boss.at
)

const (
	startTime   = 60 * time.Second // from spawn to Hello
	silenceTime = 30 * time.Second // between heartbeats, if Hello says nothing
	leaveTime   = 30 * time.Second // from Restart to exit
	killTime    = 5 * time.Second  // from SIGKILL to the end
	clearTime   = 2 * time.Second  // for the children's groups to empty
	healthyTime = 60 * time.Second // up this long, it counts as good
	missesTime  = 2                // deaths of an unproven program before another is tried
)

// boss is the orchestrator as init sees it.
type boss struct {
	phase   bossPhase
	at      time.Time
	proc    *process
	link    *link
	gen     uint64
	silence time.Duration
	beat    time.Time // last heartbeat, or the beginning
	since   time.Time // of the Hello
	deaths  uint32
	loop    crashes
	paths   paths
	busy    []int // survivors of earlier generations
	old     []int // orchestrators that were given up
	drained bool  // init has no child at all
}

func (b *boss) init(m *machine) {
	b.paths = newPaths(m.settings.exe)
	b.at = time.Now()
	b.beat = b.at
}

// due does what the time asks for.
func (b *boss) due(m *machine, now time.Time) {
	if m.down.final {
		return
	}
	if b.phase == bossClearing && b.cleared(m) {
		b.at = now
	}
	if b.phase == bossUp && !b.since.IsZero() && now.Sub(b.since) >= healthyTime {
		b.proven(m)
	}
	if b.at.After(now) {
		return
	}
	switch b.phase {
	case bossDown:
		b.clear(m, now)
	case bossClearing:
		b.busy = b.survivors(m)
		if m.handover != nil {
			m.switchRoot(m.handover) // returns where it fails
		}
		b.start(m, now)
	case bossStarting:
		b.kill(m, now, "did not say Hello within "+seconds(startTime))
	case bossUp:
		if quiet := now.Sub(b.beat); quiet >= b.silence && !m.down.under(now) {
			b.kill(m, now, "no heartbeat for "+seconds(quiet))
		} else {
			b.next(m, now)
		}
	case bossLeaving:
		b.kill(m, now, "did not exit within "+seconds(leaveTime)+" of asking for its restart")
	case bossKilled:
		b.abandon(m, now)
	}
}

// next sets when to look at a running orchestrator again.
func (b *boss) next(m *machine, now time.Time) {
	b.at = b.beat.Add(b.silence)
	if m.down.under(now) {
		b.at = m.down.at
	}
	if healthy := b.since.Add(healthyTime); !b.since.IsZero() && healthy.After(now) && healthy.Before(b.at) {
		b.at = healthy
	}
}

// proven: the orchestrator has been up long enough to be trusted.
func (b *boss) proven(m *machine) {
	b.since = time.Time{}
	b.paths.proven()
	b.loop = crashes{}
	m.failure.ownEnded(m)
}

// clear kills what the last generation left: its own group and its children.
func (b *boss) clear(m *machine, now time.Time) {
	for _, g := range []string{groupOrchestrator, groupChildren} {
		if err := m.groups.kill(g); err != nil && m.groups != "" {
			m.debug("kill cgroup " + g + ": " + err.Error())
		}
	}
	b.phase, b.at = bossClearing, now.Add(clearTime)
	if b.cleared(m) {
		b.at = now
		b.due(m, now)
	}
}

func (b *boss) cleared(m *machine) bool {
	return !m.groups.populated(groupOrchestrator) && !m.groups.populated(groupChildren)
}

// survivors lists what sleeps in the kernel and could not be killed, and
// removes the groups of the others.
func (b *boss) survivors(m *machine) []int {
	const limit = 1 << 12
	list := append([]int(nil), b.old...)
	seen := map[int]bool{}
	for _, p := range b.old {
		seen[p] = true
	}
	for _, g := range []string{groupOrchestrator, groupChildren} {
		for _, p := range m.groups.pids(g, limit) {
			if !seen[p] {
				list = append(list, p)
			}
		}
		m.groups.clear(g)
	}
	return list
}

// start spawns the next generation.
func (b *boss) start(m *machine, now time.Time) {
	path := b.paths.current()
	spec := &wire.Spec{
		Path: path, Argv: []string{path, "boot"},
		Env:      []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=linux", "GODEBUG=disablethp=1"},
		OOMScore: -900,
		Files:    []uint32{0, 1, 2, wire.FD},
	}
	p, l, err := b.spawn(m, spec)
	if err != nil {
		m.note("start " + path + ": " + err.Error())
		b.died(m, now, false)
		return
	}
	b.gen++
	b.proc, b.link = p, l
	b.phase, b.at, b.beat, b.since = bossStarting, now.Add(startTime), now, time.Time{}
	m.debug("generation " + itoa(int(b.gen)) + ": " + path + " [" + itoa(p.pid) + "]")
}

func (b *boss) spawn(m *machine, spec *wire.Spec) (*process, *link, error) {
	enc, err := spec.Encode()
	if err != nil {
		return nil, nil, err
	}
	mem, err := memory("initd-spec", enc)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(mem)
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	con := consoleFor()
	defer unix.Close(con)
	p, err := m.spawn("initd", groupOrchestrator, mem, []int{con, con, con, int(theirs.Fd())})
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	p.boss = true
	return p, newLink(conn, m.inbox), nil
}

// memory returns a memfd with b in it.
func memory(name string, b []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if _, err := unix.Write(fd, b); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("write "+name, err)
	}
	return fd, nil
}

// kill ends an orchestrator that does not behave.
func (b *boss) kill(m *machine, now time.Time, why string) {
	b.phase, b.at = bossKilled, now.Add(killTime) // first: a note waits for the next
	m.note("orchestrator of generation " + itoa(int(b.gen)) + " killed: " + why)
	if b.proc != nil {
		_ = unix.PidfdSendSignal(b.proc.pidfd, unix.SIGKILL, nil, 0)
	}
}

// abandon goes on without an orchestrator that SIGKILL does not end: a thread
// of it sleeps in the kernel. It leads no more, since its link is closed.
func (b *boss) abandon(m *machine, now time.Time) {
	m.note("orchestrator of generation " + itoa(int(b.gen)) + " cannot be ended: process " + itoa(b.proc.pid) + " sleeps in the kernel")
	b.old = append(b.old, b.proc.pid)
	b.proc.boss = true
	b.proc = nil
	b.died(m, now, true)
}

// ended hears of the end of an orchestrator's process.
func (b *boss) ended(m *machine, p *process, w syscall.WaitStatus, was wire.State) {
	for i, pid := range b.old {
		if pid == p.pid {
			b.old = append(b.old[:i], b.old[i+1:]...)
			break
		}
	}
	if p != b.proc {
		return // one that was given up has ended after all
	}
	b.proc = nil
	b.unlink()
	now, phase := time.Now(), b.phase
	b.phase = bossDown // a note waits for the next
	switch {
	case p.stage != 0:
		b.gen-- // it never led
		path := b.paths.current()
		m.note("start " + path + ": cannot " + p.stage.String() + ": " + syscall.Errno(p.errno).Error())
		b.died(m, now, false)
	case phase == bossLeaving:
		b.at = now
	default:
		m.note("orchestrator of generation " + itoa(int(b.gen)) + ": " + waitText(w))
		b.died(m, now, true)
	}
}

// died plans what follows a death. ran is false when the program could not
// even be loaded: the next place is tried at once, and only a round of all of
// them counts as a death.
func (b *boss) died(m *machine, now time.Time, ran bool) {
	b.unlink()
	again := b.paths.failed(ran)
	b.phase = bossDown
	if !ran && again {
		b.at = now
		return
	}
	b.deaths++
	m.down.lost(m, now)
	wait, failing := b.loop.add(now)
	b.at = now.Add(wait)
	if failing {
		m.failure.own(m, now)
	}
}

func (b *boss) unlink() {
	if b.link != nil {
		b.link.close()
		b.link = nil
	}
}
