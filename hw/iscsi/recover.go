package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrGone says that a session does not exist any more.
var ErrGone = errors.New("the session is gone")

// Recover gives a session whose connection failed a new one: same identity, same disks. A session that is up, by the
// kernel's own word and not only by its looks, is left as it is. ErrGone if there is none, or another's by now; else the errors of Login. It can sleep in the kernel.
func (k *Kernel) Recover(ctx context.Context, rec Record, chap *CHAP, logout bool) error {
	s, err := k.own(rec)
	if err != nil {
		return err
	}
	isid, err := ParseISID(rec.ISID)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	bulletin, err := k.board(life)
	if err != nil {
		return err
	}
	events, release := bulletin.hear(rec.Session)
	defer release()
	switch up := s.Conn == "up" && s.State == "LOGGED_IN"; {
	case up && !logout:
		if k.alive(ctx, rec.Session, events) {
			return nil
		}
	case up:
		bounded, end := context.WithTimeout(ctx, logoutWait)
		_ = k.sayGoodbye(bounded, rec.Session, events) // it is left in any case
		end()
	}
	c, err := rec.Config.filled()
	if err != nil {
		return err
	}
	op := "log in to " + c.Target + " again"
	for w := (way{at: rec.place()}); ; {
		m, err := newMachine(request{initiator: c.Initiator, target: c.Target, isid: isid, settings: c.Settings, chap: chap})
		if err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		if err := k.stop(rec.Session, stopRecover); err != nil { // else a new socket is refused
			return err
		}
		err = k.again(ctx, rec, c, w.at, m, events)
		if err == nil {
			return k.noteMoved(rec, w.moved)
		}
		err = errors.Join(err, k.stop(rec.Session, stopRecover))
		hopErr := w.hop(err)
		switch kernel := (*KernelError)(nil); {
		case hopErr == nil:
		case errors.As(hopErr, &kernel):
			return fmt.Errorf("%s: %w", op, hopErr)
		case w.hops == 0 && w.at != c.Portal && ctx.Err() == nil: // where it had moved to for good it is not: it may be back
			w.at = c.Portal
		default:
			return atPortal(op, w.at.Address(), hopErr)
		}
	}
}

// noteMoved keeps for the next time where a target has moved to for good.
func (k *Kernel) noteMoved(rec Record, to *Portal) error {
	if to == nil || k.moved == nil {
		return nil
	}
	rec.Moved = to
	return k.moved(rec)
}

// pingWait bounds the answer to a ping; a connection on which none comes is for the kernel's own pings to find out about.
const pingWait = 5 * time.Second

// alive tells whether a session that sysfs shows as up is. The kernel tells of a failed connection first, and shows it a moment later,
// when a worker has cleaned it up (iscsi_conn_error_event, drivers/scsi/scsi_transport_iscsi.c). But before it tells, it has marked
// the session as failed, and takes no more requests for it: so the session is up if the kernel takes a ping for the target, and no error
// comes before the answer.
func (k *Kernel) alive(ctx context.Context, sid uint32, events <-chan Event) bool {
	p := &pdu{}
	p.header[0], p.header[1] = opImmediate|opNopOut, flagTransit
	p.put32(20, reservedTag)
	if k.send(sid, p) != nil {
		return false
	}
	bounded, end := context.WithTimeout(ctx, pingWait)
	defer end()
	err := await(bounded, events, func(e Event) (bool, error) {
		if e.Kind == Lost {
			return false, errLost
		}
		return e.Kind == PDU && e.pdu.opcode() == opNopIn, nil
	})
	return err == nil || bounded.Err() != nil
}

// own reads a record's session, if it is still that one.
func (k *Kernel) own(rec Record) (Session, error) {
	s, err := ReadSession(k.sys, rec.Session)
	if errors.Is(err, fs.ErrNotExist) {
		return s, ErrGone
	}
	if err != nil {
		return s, err
	}
	if isid, ok := s.ISID(); !ok || isid.String() != rec.ISID {
		return s, ErrGone
	}
	return s, nil
}

// again logs in over the kernel's connection, whose sequence numbers go on.
func (k *Kernel) again(ctx context.Context, rec Record, c Config, at Portal, m *machine, events <-chan Event) error {
	conn, err := c.dial(ctx, at)
	if err != nil {
		return err
	}
	defer conn.Close() // the kernel holds it
	drain(events)
	if err := k.bindConn(rec.Session, conn); err != nil {
		return err
	}
	for p := m.first(); p != nil; {
		if err := k.sendWhenFree(ctx, rec.Session, p); err != nil {
			return err
		}
		var answer *pdu
		err := await(ctx, events, func(e Event) (bool, error) {
			switch e.Kind {
			case PDU:
				answer = e.pdu
				return true, nil
			case Lost:
				return false, fmt.Errorf("%s: %w", e.Why(), errLost)
			}
			return false, nil
		})
		if err != nil {
			return err
		}
		if p, err = m.next(answer); err != nil {
			return err
		}
	}
	if err := k.setAll(rec.Session, agreedParams(m.out.agreed, m.out.statSN)); err != nil {
		return err
	}
	return k.start(rec.Session)
}

// errLost says that a connection failed in the middle of a login.
var errLost = errors.New("the connection was lost during the login")

// drain forgets events of an older try.
func drain(events <-chan Event) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}

// logoutWait bounds the answer to a logout: the session ends in any case.
const logoutWait = 5 * time.Second

// sayGoodbye sends a logout and waits for its answer (RFC 7143, 11.14).
func (k *Kernel) sayGoodbye(ctx context.Context, sid uint32, events <-chan Event) error {
	p := &pdu{}
	p.header[0], p.header[1] = opImmediate|opLogoutReq, flagTransit // reason 0: close the session
	if err := k.sendWhenFree(ctx, sid, p); err != nil {
		return err
	}
	return await(ctx, events, func(e Event) (bool, error) {
		switch {
		case e.Kind == Lost: // closed before or instead of an answer: as good
			return true, nil
		case e.Kind != PDU || e.pdu.opcode() != opLogoutReply:
			return false, nil
		case e.pdu.header[2] != 0:
			return false, fmt.Errorf("the target answers the logout with %d", e.pdu.header[2])
		}
		return true, nil
	})
}
