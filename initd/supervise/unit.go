package supervise

import (
	"fmt"
	"os"
	"sync"
	"time"

	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// Phase is where a service is in its life.
type Phase string

// The phases of a service.
const (
	Down     Phase = "down"     // it does not run, and nobody wants it to
	Loading  Phase = "loading"  // init's stub has not executed the program yet
	Starting Phase = "starting" // it runs and is not ready
	Running  Phase = "ready"    // it runs and is ready
	Waiting  Phase = "waiting"  // it ended and is started again soon
	Stopping Phase = "stopping"
	Failed   Phase = "failed"  // it ended, and is not started again
	Skipped  Phase = "skipped" // a condition does not hold
)

// Status is what is known about a service.
type Status struct {
	Name     string
	Phase    Phase
	Reason   string // what it waits for, or how it ended
	PID      int    // 0: it does not run
	Restarts int    // in a row
	Text     string // what it says about itself (STATUS=)
	Adopted  bool   // it was started by an orchestrator before this one
}

// unit is one service.
type unit struct {
	m    *Manager
	name string
	log  *log

	mu       sync.Mutex // guards what follows
	def      Service
	digest   string // empty: adopted, and nobody has said how it should be
	phase    Phase
	reason   string
	text     string
	restarts int
	adopted  bool
	proc     *proc
	pipe     logPipe
	notify   *os.File // the notify socket
	retry    *time.Timer
	moved    chan struct{} // closed and replaced at each change
}

// proc is one process of a service.
type proc struct {
	client.Process
	started time.Time
	cancel  func() // ends the wait for readiness
}

// move changes the phase; mu is held.
func (u *unit) move(p Phase, reason string) {
	if u.phase == p && u.reason == reason {
		return
	}
	u.phase, u.reason = p, reason
	u.stir()
}

// because changes the reason alone; mu is held.
func (u *unit) because(reason string) {
	if u.reason != reason {
		u.reason = reason
		u.stir()
	}
}

func (u *unit) stir() {
	close(u.moved)
	u.moved = make(chan struct{})
	u.m.changed(u.statusLocked())
}

func (u *unit) status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.statusLocked()
}

func (u *unit) statusLocked() Status {
	s := Status{Name: u.name, Phase: u.phase, Reason: u.reason, Restarts: u.restarts, Text: u.text, Adopted: u.adopted}
	if u.proc != nil {
		s.PID = u.proc.PID
	}
	return s
}

// told hears from init about the current process.
func (u *unit) told(msg wire.Message) {
	switch r := msg.(type) {
	case *wire.Running:
		u.loaded(r.ID)
	case *wire.Exited:
		go u.ended(r)
	}
}

// loaded: the program runs.
func (u *unit) loaded(id uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil || u.proc.ID != id || u.phase != Loading {
		return
	}
	u.await()
}

// await begins the wait for readiness; mu is held.
func (u *unit) await() {
	if u.def.Ready.none() {
		u.ready()
		return
	}
	reason := "waiting for " + u.def.Ready.String()
	if u.def.Ready.Notify && u.text != "" { // it may speak before init does
		reason += ": " + u.text
	}
	u.move(Starting, reason)
	u.probe(u.proc)
}

// ready: the service serves; mu is held.
func (u *unit) ready() {
	u.proc.cancel()
	u.move(Running, "")
	u.save()
}

// ended follows the end of a process: what it left is killed, and the service
// starts again or not.
func (u *unit) ended(e *wire.Exited) {
	u.mu.Lock()
	if u.proc == nil || u.proc.ID != e.ID {
		u.mu.Unlock()
		u.m.finish(e)
		return
	}
	p := u.proc
	p.cancel()
	if u.pipe.read != nil {
		u.log.catchUp(u.pipe.read)
	}
	u.mu.Unlock()
	u.m.finish(e) // before another one starts: it may hold the port
	u.mu.Lock()
	if u.phase == Stopping {
		u.mu.Unlock()
		u.release()
		u.mu.Lock()
	}
	defer u.mu.Unlock()
	if p.PIDFD != nil {
		p.PIDFD.Close()
	}
	u.proc = nil
	how := Ended(e, u.def.Command[0])
	u.log.say("[" + u.name + " ended: " + how + "]")
	if u.phase == Stopping {
		u.move(Down, how)
		return
	}
	wasReady := u.phase == Running
	if e.Stage == 0 && !wasReady {
		how += " before it was ready"
	}
	ran := time.Duration(e.Ended - min(e.Started, e.Ended))
	v, count := u.def.Restart.judge(clean(&u.def, e), ran, u.restarts)
	u.restarts = count
	if last := u.log.lastSaid(); v.failed && last != "" {
		how += ": " + last
	}
	switch {
	case v.again:
		u.move(Waiting, fmt.Sprintf("%s; starts again in %s", how, v.after))
		u.retry = time.AfterFunc(v.after, u.again)
	case v.failed || !wasReady && !u.def.Ready.none():
		u.move(Failed, how)
	default:
		u.move(Down, how)
	}
	u.save()
}

// again starts the service after its backoff.
func (u *unit) again() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == Waiting {
		u.launch()
	}
}

// lastSaid returns the last line that the service itself wrote.
func (l *log) lastSaid() string {
	lines := l.last(4)
	for i := len(lines) - 1; i >= 0; i-- {
		if s := lines[i]; s != "" && s[0] != '[' {
			return s
		}
	}
	return ""
}
