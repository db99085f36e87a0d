package iscsi

import (
	"context"
	"errors"
	"fmt"
)

// Logout ends a session of ours, in the order that was measured: disks, logout, connection, session. Nothing may use its
// disks. Where the target does not answer until ctx ends, or is known to be dead, I/O that waits is failed and the session
// taken apart nevertheless. A session that is gone is no error. It can sleep in the kernel.
func (k *Kernel) Logout(ctx context.Context, rec Record) error {
	s, err := k.own(rec)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.End(ctx, s)
}

// End is Logout for any session, whoever made it.
func (k *Kernel) End(ctx context.Context, s Session) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the answer of the kernel comes after ctx, too
	defer cancel()
	bulletin, err := k.board(life)
	if err != nil {
		return err
	}
	events, release := bulletin.hear(s.ID)
	defer release()
	polite := s.Conn == "up" && s.State == "LOGGED_IN"
	if !polite {
		_ = k.stop(s.ID, stopTerm) // fails what waits, so that the disks can go
	}
	if err := k.unbind(s.ID); err != nil {
		return err
	}
	unbound := func(ctx context.Context) error {
		return await(ctx, events, func(e Event) (bool, error) { return e.Kind == Unbound, nil })
	}
	err = unbound(ctx)
	if ctx.Err() != nil { // a target that does not answer any more
		polite = false
		_ = k.stop(s.ID, stopTerm)
		again, end := context.WithTimeout(life, logoutWait)
		err = unbound(again)
		end()
	}
	if err != nil && !errors.Is(err, errEventsLost) {
		return fmt.Errorf("log out of %s: its disks do not go: %w", s.Target, err)
	}
	var goodbye error
	if polite {
		bounded, end := context.WithTimeout(ctx, logoutWait)
		goodbye = k.sayGoodbye(bounded, s.ID, events)
		end()
	}
	_ = goodbye // a target that does not hear it finds out by itself
	_ = k.stop(s.ID, stopTerm)
	return k.destroy(s.ID)
}

// Release gives a session of ours away for good, to whom takes it up (iscsid does so when it starts): it keeps running, its
// interface is called as open-iscsi calls its own, and nobody here will recover it or end it.
func (k *Kernel) Release(rec Record) error {
	if _, err := k.own(rec); err != nil {
		return err
	}
	return k.setParam(rec.Session, paramIface, "default")
}

// paramIface is the name of the interface (ISCSI_PARAM_IFACE_NAME).
const paramIface = 32
