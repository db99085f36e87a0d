package iscsi

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Code names a kind of failure; codes are stable and documented.
type Code string

// Codes of failures on the way to a portal.
const (
	CodeConfig  Code = "ISCSI-CONFIG"  // a name, a secret or a parameter that cannot be used
	CodeResolve Code = "ISCSI-RESOLVE" // the portal's name has no address
	CodeDial    Code = "ISCSI-DIAL"    // no TCP connection
	CodeTimeout Code = "ISCSI-TIMEOUT" // connected or not, no answer in time
	CodeClosed  Code = "ISCSI-CLOSED"  // the connection ended in mid-conversation
)

// Codes of what a target says.
const (
	CodeProtocol    Code = "ISCSI-PROTOCOL"    // bytes that are no iSCSI, or not what they should be
	CodeParameter   Code = "ISCSI-PARAMETER"   // a proposal that the target does not take
	CodeAuth        Code = "ISCSI-AUTH"        // it does not believe who we are
	CodeMutual      Code = "ISCSI-MUTUAL"      // it does not prove who it is
	CodeForbidden   Code = "ISCSI-FORBIDDEN"   // this initiator may not use the target
	CodeNotFound    Code = "ISCSI-NOT-FOUND"   // there is no such target
	CodeRemoved     Code = "ISCSI-REMOVED"     // the target is gone for good
	CodeTooMany     Code = "ISCSI-TOO-MANY"    // no room for another session or connection
	CodeUnavailable Code = "ISCSI-UNAVAILABLE" // the target is off, or cannot serve now
	CodeRefused     Code = "ISCSI-REFUSED"     // another refusal
	CodeRedirect    Code = "ISCSI-REDIRECT"    // the target is served elsewhere
)

// PortalError is a failure at one portal. Its cause is one of this package's types, or that of the network.
type PortalError struct {
	Op     string // "discover targets", "log in to iqn.…"
	Portal string // HOST:PORT
	Err    error
	code   string
}

// atPortal says what an error at a portal is.
func atPortal(op, portal string, err error) *PortalError {
	return &PortalError{Op: op, Portal: portal, Err: err, code: classify(err)}
}

func (e *PortalError) Error() string { return e.Op + " at " + e.Portal + ": " + cause(e.Err) }
func (e *PortalError) Unwrap() error { return e.Err }

// Server is the portal.
func (e *PortalError) Server() string { return e.Portal }

// Code is the stable code of this error.
func (e *PortalError) Code() string { return e.code }

func classify(err error) string {
	if c := (interface{ Code() string })(nil); errors.As(err, &c) {
		return c.Code()
	}
	var dns *net.DNSError
	var n net.Error
	late := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
	switch {
	case errors.As(err, &dns):
		return string(CodeResolve)
	case late:
		return string(CodeTimeout)
	case errors.Is(err, errDial):
		return string(CodeDial)
	}
	return string(CodeClosed)
}

// Hint says what to do.
func (e *PortalError) Hint() string {
	if h := (interface{ Hint() string })(nil); errors.As(e.Err, &h) {
		return h.Hint()
	}
	switch Code(e.code) {
	case CodeResolve:
		return "look at the name and the name servers"
	case CodeDial:
		return "look whether the target is up, and whether it listens at this address and port"
	case CodeTimeout:
		return "look what drops packets on the way, or what listens there without answering"
	}
	return "look at the target's log for why it ended the connection"
}

// endedError is a connection that ended in the middle of a login.
type endedError struct {
	err       error
	noSecrets bool // it ended at once, and nobody was named
}

func (e *endedError) Error() string { return e.err.Error() }
func (e *endedError) Unwrap() error { return e.err }

// Hint says what to do.
func (e *endedError) Hint() string {
	if e.noSecrets {
		return "look at the target's log for why; LIO does so where it wants CHAP and is offered none"
	}
	return "look at the target's log for why it ended the connection"
}

// ended marks the end of a connection in this login; other errors stay as they are.
func (m *machine) ended(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return &endedError{err: err, noSecrets: m.req.chap == nil && m.rounds == 0}
}

// errDial marks what happened before there was a connection.
var errDial = errors.New("no connection")

// cause says in words what the network's errors mean.
func cause(err error) string {
	var dns *net.DNSError
	var n net.Error
	var op *net.OpError
	var sys syscall.Errno
	var ended *endedError
	switch {
	case errors.As(err, &ended) && ended.noSecrets:
		return "the target ended the connection at once: it may want CHAP"
	case errors.As(err, &dns):
		return dns.Err + ": " + dns.Name
	case errors.Is(err, context.Canceled):
		return "it was called off"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		if errors.Is(err, errDial) {
			return "no answer to the connection request in time"
		}
		return "connected, but no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the target ended the connection in the middle of the conversation"
	case errors.As(err, &sys):
		return sys.Error()
	case errors.As(err, &op):
		var call *os.SyscallError
		if errors.As(op.Err, &call) {
			return call.Err.Error()
		}
		return op.Err.Error()
	}
	return err.Error()
}
