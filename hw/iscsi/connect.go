package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NoLUNError says that a target does not have a LUN that was asked for, or has no disk there.
type NoLUNError struct {
	Target string
	LUN    uint64
	// There is what the target has there instead of a disk ("a tape"), or has no disk come of; empty: nothing.
	There string
	// disk: it is one, and its node has not come yet.
	disk bool
	// empty: its disk has come, without a single sector.
	empty bool
}

func (e *NoLUNError) Error() string {
	switch {
	case e.empty:
		return fmt.Sprintf("LUN %d of %s is a disk whose size cannot be read", e.LUN, e.Target)
	case e.disk:
		return fmt.Sprintf("LUN %d of %s is there, and its disk has not come", e.LUN, e.Target)
	case e.There != "":
		return fmt.Sprintf("LUN %d of %s is %s, not a disk", e.LUN, e.Target, e.There)
	}
	return fmt.Sprintf("%s has no LUN %d for this initiator", e.Target, e.LUN)
}

// Code is the stable code of this error.
func (*NoLUNError) Code() string { return "ISCSI-NO-LUN" }

// Hint says what to do.
func (e *NoLUNError) Hint() string {
	if e.empty {
		return "look on the target whether what is behind the LUN is there, and ready"
	}
	if e.There != "" {
		return "name the LUN of a disk; initd iscsi login --all-luns shows them"
	}
	return "look which LUNs the target maps to this initiator; initd iscsi login --all-luns shows them"
}

// Login logs in, hands the connection to the kernel, and looks for the LUNs asked for. The login itself is done before
// there is anything in the kernel: a portal that is dead, slow or unwilling costs nobody else anything, and leaves nothing
// behind. keep is called with the session's record before I/O can flow. The error is a *SettingError, a *PortalError, a
// *KernelError or, with a session that stays, a *NoLUNError. A session whose connection was lost while its disks were looked at is
// ended: what the kernel has taken them for then (their size, their identity, whether they have a cache to flush) stays so.
func (k *Kernel) Login(ctx context.Context, c Config, chap *CHAP, keep func(Record) error) (Record, error) {
	c, err := c.filled()
	if err != nil {
		return Record{}, fmt.Errorf("log in to %s: %w", c.Target, err)
	}
	isid := NewISID()
	conn, result, err := loginAt(ctx, c, isid, chap)
	if err != nil {
		return Record{}, err
	}
	defer conn.Close() // the kernel holds it
	rec := Record{ISID: isid.String(), Config: c, Time2Wait: result.agreed.Time2Wait, Moved: result.moved}
	if err := k.makeSession(&rec, conn, isid, result, keep); err != nil {
		return rec, err
	}
	k.turns.wait(ctx)
	err = k.Scan(ctx, rec)
	if errors.Is(err, errReadInPart) {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutWait)
		err = errors.Join(err, k.Logout(bounded, rec))
		cancel()
	}
	return rec, err
}

// makeSession makes a session of a connection that is logged in, or nothing.
func (k *Kernel) makeSession(rec *Record, conn *net.TCPConn, isid ISID, result loginResult, keep func(Record) error) error {
	defer k.turns.take()()
	sid, host, err := k.createSession(firstCmdSN, rec.Config.Timing.Commands, rec.Config.Timing.Depth)
	if err != nil {
		return err
	}
	rec.Session, rec.Host = sid, host
	if err := k.handOver(*rec, conn, isid, result, keep); err != nil {
		return errors.Join(err, k.abandon(sid))
	}
	return nil
}

// firstCmdSN is the CmdSN of a session's login and of its first command.
const firstCmdSN = 1

// handOver gives the kernel a connection that is logged in.
func (k *Kernel) handOver(rec Record, conn *net.TCPConn, isid ISID, result loginResult, keep func(Record) error) error {
	sid := rec.Session
	if err := k.createConn(sid); err != nil {
		return err
	}
	if err := k.bindConn(sid, conn); err != nil {
		return err
	}
	if err := k.setAll(sid, rec.Config.before(isid, result.tag)); err != nil {
		return err
	}
	if err := k.setAll(sid, agreedParams(result.agreed, result.statSN)); err != nil {
		return err
	}
	if keep != nil {
		if err := keep(rec); err != nil {
			return err
		}
	}
	return k.start(sid)
}

func (k *Kernel) bindConn(sid uint32, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var bound error
	if err := raw.Control(func(fd uintptr) { bound = k.bind(sid, fd) }); err != nil {
		return err
	}
	return bound
}

// abandon takes apart a session that carried no I/O.
func (k *Kernel) abandon(sid uint32) error {
	_ = k.stop(sid, stopTerm) // there may be no connection yet
	return k.destroy(sid)
}

// loginAt does a whole login in user space, over redirections, and returns its connection.
func loginAt(ctx context.Context, c Config, isid ISID, chap *CHAP) (*net.TCPConn, loginResult, error) {
	op := "log in to " + c.Target
	for w := (way{at: c.Portal}); ; {
		m, err := newMachine(request{initiator: c.Initiator, target: c.Target, isid: isid, settings: c.Settings, chap: chap})
		if err != nil {
			return nil, loginResult{}, fmt.Errorf("%s: %w", op, err)
		}
		conn, err := c.dial(ctx, w.at)
		if err == nil {
			if err = converse(ctx, conn, m); err == nil {
				m.out.moved = w.moved
				return conn, m.out, nil
			}
			conn.Close() // at once: a target may take one login at a time
		}
		if err := w.hop(err); err != nil {
			return nil, loginResult{}, atPortal(op, w.at.Address(), err)
		}
	}
}

// way is where a login has come to over redirections.
type way struct {
	at    Portal
	hops  int
	moved *Portal // where they led for good; nil: nowhere, or one of them was for now
	brief bool    // one was for now
}

// hop follows a redirection, up to the bound, or returns the error.
func (w *way) hop(err error) error {
	var moved *RedirectError
	switch {
	case !errors.As(err, &moved):
		return err
	case w.hops == maxRedirects:
		return protocol("it redirects for ever (last to %s)", moved.Address)
	}
	p, err := ParsePortal(moved.Address)
	if err != nil {
		return protocol("%v", err)
	}
	w.at = p
	w.hops++
	if w.brief = w.brief || !moved.Permanent; !w.brief {
		w.moved = &p
	}
	return nil
}

// dial connects as the configuration wants it.
func (c Config) dial(ctx context.Context, at Portal) (*net.TCPConn, error) {
	d := net.Dialer{}
	if c.Source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.Source)}
	}
	if c.Interface != "" {
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			var bound error
			if err := raw.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), c.Interface) }); err != nil {
				return err
			}
			return bound
		}
	}
	conn, err := d.DialContext(ctx, "tcp", at.Address())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", errDial, err)
	}
	return conn.(*net.TCPConn), nil
}

// converse runs a login over a socket of our own, until ctx ends.
func converse(ctx context.Context, conn *net.TCPConn, m *machine) (err error) {
	release := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !release() && err == nil {
			err = context.Cause(ctx) // the deadline would stay with the connection
		}
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}()
	for p := m.first(); p != nil; {
		p.put32(24, firstCmdSN)
		if _, err := conn.Write(p.encode(digests{})); err != nil {
			return m.ended(err)
		}
		answer, err := readPDU(conn, maxLoginData, digests{})
		if err != nil {
			return m.ended(err)
		}
		if p, err = m.next(answer); err != nil {
			return err
		}
	}
	return nil
}

// Scan looks for the LUNs that a session's record asks for, and waits until their disks are there. It can sleep in the
// kernel for as long as the target does not answer.
func (k *Kernel) Scan(ctx context.Context, rec Record) error {
	before := k.connection(rec.Session)
	if rec.Config.AllLUNs {
		if err := scan(rec.Host, "-"); err != nil {
			return fmt.Errorf("look for LUNs of %s: %w", rec.Config.Target, err)
		}
		if len(rec.Config.LUNs) == 0 {
			return k.readWhole(rec, before)
		}
	}
	if len(rec.Config.LUNs) == 0 {
		return nil
	}
	arrived, release, err := k.disks.hear(rec.Session)
	if err != nil {
		return err
	}
	defer release()
	for _, lun := range rec.Config.LUNs {
		for _, n := range Addresses(lun) {
			if err := scan(rec.Host, strconv.FormatUint(n, 10)); err != nil {
				return fmt.Errorf("look for LUN %d of %s: %w", lun, rec.Config.Target, err)
			}
			if _, ok := k.unit(rec.Session, lun); ok {
				break
			}
		}
	}
	for {
		missing, err := k.missing(rec)
		if err != nil {
			return err
		}
		if missing == nil {
			return k.readWhole(rec, before)
		}
		if missing.disk { // sd comes a little later than the SCSI device
			select {
			case _, ok := <-arrived:
				if ok {
					continue
				}
			case <-ctx.Done():
			}
		}
		return fmt.Errorf("log in to %s: %w", rec.Config.Target, missing)
	}
}

// connection tells the connections of a session apart: each comes from a port of its own.
func (k *Kernel) connection(sid uint32) string {
	port, err := k.sys.String(fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/local_port", sid))
	if err != nil {
		return "" // there is none now
	}
	return port
}

// errReadInPart says that nobody knows what the kernel could read of a session's disks.
var errReadInPart = errors.New("the connection was lost while the disks were looked at")

// readWhole tells whether the disks that have come are what the kernel takes them for. Where I/O does not wait for ever for a lost
// connection, it fails, and sd makes do with what it has: no size, no identity, no cache (sd_revalidate_disk, drivers/scsi/sd.c).
func (k *Kernel) readWhole(rec Record, before string) error {
	s, err := ReadSession(k.sys, rec.Session)
	if err != nil {
		return err
	}
	waits := s.Recovery == "off"
	if !waits && (!s.LoggedIn() || k.connection(rec.Session) != before) {
		return atPortal("look at the disks of "+rec.Config.Target, rec.Config.Portal.Address(), errReadInPart)
	}
	for _, lun := range rec.Config.LUNs {
		d, ok := s.Disk(lun)
		unit, there := k.unit(rec.Session, lun)
		if !ok || !there || d.sectors(k.sys) > 0 {
			continue
		}
		if err := reread(unit); err != nil {
			return fmt.Errorf("look at LUN %d of %s again: %w", lun, rec.Config.Target, err)
		}
		if d.sectors(k.sys) == 0 {
			return fmt.Errorf("log in to %s: %w", rec.Config.Target, &NoLUNError{Target: rec.Config.Target, LUN: lun, empty: true})
		}
	}
	return nil
}

// missing returns the first LUN without a disk, or nil.
func (k *Kernel) missing(rec Record) (*NoLUNError, error) {
	s, err := ReadSession(k.sys, rec.Session)
	if err != nil {
		return nil, err
	}
	for _, lun := range rec.Config.LUNs {
		if d, ok := s.Disk(lun); !ok || !present(d) {
			missing := &NoLUNError{Target: rec.Config.Target, LUN: lun}
			if unit, ok := k.unit(rec.Session, lun); ok {
				missing.There, missing.disk = whatIs(k.sys, unit)
			}
			return missing, nil
		}
	}
	return nil, nil
}

// Disk returns the disk of a LUN.
func (s Session) Disk(lun uint64) (Disk, bool) {
	for _, n := range Addresses(lun) {
		for _, d := range s.Disks {
			if d.LUN == n {
				return d, true
			}
		}
	}
	return Disk{}, false
}

func present(d Disk) bool {
	_, err := os.Stat(d.Node())
	return err == nil
}

// Addresses are the numbers by which the kernel and sysfs may count a LUN: from 256 on arrays use the flat address space
// (SAM-5, 4.7.7.4, scsilun_to_int), LIO does not.
func Addresses(lun uint64) []uint64 {
	if lun >= 256 && lun < 1<<14 {
		return []uint64{lun, lun | 1<<14}
	}
	return []uint64{lun}
}
