package iscsi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"initd/hw/sysfs"
)

// Supervisor keeps the sessions that have a record: it hears what the kernel says of them and has a lost connection made
// anew, for as long as the session exists and its record stays. It makes no request of the kernel itself and touches no
// session without a record.
type Supervisor struct {
	Sys     *sysfs.FS
	Records Records
	// Recover makes one attempt, as Kernel.Recover does: in a process that may sleep.
	Recover func(ctx context.Context, rec Record, logout bool) error
	// Tell hears what becomes of a session. It is called from several goroutines.
	Tell func(rec Record, n News)

	mu   sync.Mutex
	busy map[uint32]*trouble // sessions in recovery; guarded by mu
	wg   sync.WaitGroup
}

// trouble is why a connection has to be made anew.
type trouble struct {
	why    string
	logout bool     // the target asks for it
	next   *trouble // what came after the last login: the connection that the recovery made has failed in its turn
}

// News is what became of a session.
type News struct {
	State  NewsState
	Reason string // why it was lost, or why an attempt failed
	Err    error  // of a failed attempt
	Tries  int
	After  time.Duration // since it was lost
}

// NewsState is what a session has come to.
type NewsState int

// States.
const (
	IsLost      NewsState = iota + 1 // the connection failed; attempts begin
	TriedAgain                       // an attempt failed, for another reason than the one before
	IsRecovered                      // I/O flows
	IsGone                           // the session, or its record, is no more
	RescanAsked                      // the target says that its LUNs have changed
)

// Attempts of a recovery. While a portal does not answer it is only knocked at, about once a second, so that a target that is back
// is found soon; a target that answers and refuses is left alone for longer and longer. One that says itself that it cannot serve
// now (RFC 7143, 11.13.5, class 3: it starts, or its disks move to another controller) is asked again as often as a silent one.
const (
	attemptTime = 15 * time.Second
	attemptMax  = 2 * time.Minute // a target that is slow gets longer each time
	knockTime   = 1500 * time.Millisecond
	knockPause  = 500 * time.Millisecond
	refusedMin  = time.Second
	refusedMax  = 20 * time.Second

	unavailablePause = 700 * time.Millisecond
)

// Run keeps sessions until ctx ends. ready is closed when it hears the kernel: what is lost from then on is not missed,
// and what was lost before is recovered too.
func (s *Supervisor) Run(ctx context.Context, ready chan<- struct{}) error {
	events, err := Listen(ctx)
	if err != nil {
		return fmt.Errorf("keep iSCSI sessions: %w", err)
	}
	if ready != nil {
		close(ready)
	}
	s.keep(ctx, events)
	return nil
}

// secondLook is when sysfs is looked at again after events were missed: an error that was told before anybody listened may have
// been shown after the first look.
const secondLook = 2 * time.Second

// keep hears events until they end. Their order is the kernel's.
func (s *Supervisor) keep(ctx context.Context, events <-chan Event) {
	s.mu.Lock()
	s.busy = map[uint32]*trouble{}
	s.mu.Unlock()
	defer s.wg.Wait()
	const missed = "it was lost; the kernel's word of it was missed"
	s.recheck(ctx, "it was lost while nobody was there", func(n Session) bool { return !n.LoggedIn() })
	again := time.NewTimer(secondLook)
	defer again.Stop()
	for {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				return
			case e.Kind == Lost:
				s.lost(ctx, e.Session, trouble{why: e.Why()})
			case e.Kind == PDU:
				s.heard(ctx, e)
			case e.Kind == Overflow:
				s.recheck(ctx, missed, Session.failed)
				again.Reset(secondLook)
			}
		case <-again.C:
			s.recheck(ctx, missed, Session.failed)
		}
	}
}

// heard takes in what a target sent: the answers to logins, and asynchronous messages (RFC 7143, 11.9.1).
func (s *Supervisor) heard(ctx context.Context, e Event) {
	if e.pdu != nil && e.pdu.opcode() == opLoginReply { // errors before it were of an older connection
		s.mu.Lock()
		defer s.mu.Unlock()
		if b := s.busy[e.Session]; b != nil {
			b.next = nil
		}
		return
	}
	switch e.Async {
	case 0: // a SCSI event: most often that the LUNs are others by now
		if rec, ok := s.record(e.Session); ok {
			s.Tell(rec, News{State: RescanAsked, Reason: "the target says that something about its LUNs has changed"})
		}
	case 1:
		s.lost(ctx, e.Session, trouble{why: fmt.Sprintf("the target asks to log out (within %d s)", e.Seconds), logout: true})
	case 2, 3: // it drops the connection, which is told by itself
	}
}

// record finds the record of a session, by the identity that the kernel shows.
func (s *Supervisor) record(sid uint32) (Record, bool) {
	session, err := ReadSession(s.Sys, sid)
	if err != nil {
		return Record{}, false
	}
	isid, ours := session.ISID()
	if !ours {
		return Record{}, false
	}
	rec, err := s.Records.Read(isid.String())
	return rec, err == nil && rec.Session == sid
}

// recheck looks at every session, instead of events that were missed.
func (s *Supervisor) recheck(ctx context.Context, why string, is func(Session) bool) {
	list, err := Sessions(s.Sys)
	if err != nil {
		return
	}
	for _, session := range list {
		if session.Ours() && is(session) {
			s.lost(ctx, session.ID, trouble{why: why})
		}
	}
}

// lost begins a recovery; if one is under way, then after it, unless a login comes in between.
func (s *Supervisor) lost(ctx context.Context, sid uint32, t trouble) {
	rec, ok := s.record(sid)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.busy[sid]; b != nil {
		b.next = &t
		return
	}
	s.busy[sid] = &t
	s.wg.Go(func() {
		s.recover(ctx, rec, t.why, t.logout)
		s.mu.Lock()
		delete(s.busy, sid)
		next := t.next
		s.mu.Unlock()
		if next != nil && ctx.Err() == nil {
			s.lost(ctx, sid, *next)
		}
	})
}

// recover tries until the session is back, or gone.
func (s *Supervisor) recover(ctx context.Context, rec Record, why string, logout bool) {
	since := time.Now()
	s.Tell(rec, News{State: IsLost, Reason: why})
	if !logout { // asked to, it logs out at once
		pause(ctx, time.Duration(rec.Time2Wait)*time.Second)
	}
	wait, last, patience := refusedMin, "", attemptTime
	for tries := 1; ctx.Err() == nil; tries++ {
		if _, ok := s.record(rec.Session); !ok {
			s.Tell(rec, News{State: IsGone, Reason: "the session is not ours any more", After: time.Since(since)})
			return
		}
		now, err := rec, error(nil)
		if !logout || tries > 1 {
			now, err = s.knock(ctx, rec)
		}
		knocked := err != nil
		if err == nil {
			attempt, cancel := context.WithTimeout(ctx, patience)
			err = s.Recover(attempt, now, logout && tries == 1)
			if attempt.Err() != nil {
				patience = min(2*patience, attemptMax)
			}
			cancel()
		}
		switch {
		case err == nil:
			s.Tell(rec, News{State: IsRecovered, Tries: tries, After: time.Since(since)})
			return
		case errors.Is(err, ErrGone):
			s.Tell(rec, News{State: IsGone, Reason: err.Error(), After: time.Since(since)})
			return
		case ctx.Err() != nil:
			return
		}
		reason := err.Error()
		if knocked || unreachable(err) {
			reason = "unreachable" // by turns it is silence, a refusal, no route: said once
		}
		if reason != last {
			last = reason
			s.Tell(rec, News{State: TriedAgain, Reason: err.Error(), Err: err, Tries: tries, After: time.Since(since)})
		}
		if knocked || unreachable(err) {
			wait = refusedMin
			pause(ctx, knockPause)
			continue
		}
		if codeOf(err) == CodeUnavailable {
			pause(ctx, unavailablePause)
			continue
		}
		pause(ctx, wait)
		wait = min(wait*3/2, refusedMax)
	}
}

// knock tells whether somebody listens where the target is looked for. Where it had moved to for good, and nobody does, but at its
// portal, it is looked for there.
func (s *Supervisor) knock(ctx context.Context, rec Record) (Record, error) {
	err := knockAt(ctx, rec.Config, rec.place())
	if err != nil && rec.Moved != nil && knockAt(ctx, rec.Config, rec.Config.Portal) == nil {
		rec.Moved, err = nil, nil
	}
	return rec, err
}

func knockAt(ctx context.Context, c Config, at Portal) error {
	knocking, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	conn, err := c.dial(knocking, at)
	if err != nil {
		return atPortal("log in to "+c.Target+" again", at.Address(), err)
	}
	return conn.Close()
}

// unreachable tells whether an attempt ended before anybody answered.
func unreachable(err error) bool {
	switch codeOf(err) {
	case CodeDial, CodeTimeout, CodeClosed:
		return true
	}
	return false
}

func codeOf(err error) Code {
	if c := (interface{ Code() string })(nil); errors.As(err, &c) {
		return Code(c.Code())
	}
	return ""
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// String says it in a line.
func (n News) String() string {
	after := n.After.Round(100 * time.Millisecond)
	switch n.State {
	case IsLost:
		return "lost: " + n.Reason
	case TriedAgain:
		return fmt.Sprintf("still lost after %s: %s", after, n.Reason)
	case IsRecovered:
		return fmt.Sprintf("back after %s (attempt %d)", after, n.Tries)
	case IsGone:
		return "given up: " + n.Reason
	}
	return n.Reason
}
