package nvmeof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reason sorts why a connection could not be made, for callers that branch.
type Reason string

// Reasons. Those in the first group say that the portal was not reached, or does not speak: others may be tried meanwhile.
const (
	Refused     Reason = "connection refused"
	Unreachable Reason = "no way there"
	NoAnswer    Reason = "no answer to the dial"
	Silent      Reason = "it accepts the connection and says nothing"
	HungUp      Reason = "it closed the connection"
	NotNVMe     Reason = "what answers there does not speak NVMe/TCP"

	Exists       Reason = "it is connected already"
	NotFound     Reason = "the target does not have this subsystem there"
	HostRefused  Reason = "the subsystem is not for this host"
	Busy         Reason = "the target has no controller left"
	AuthRequired Reason = "the subsystem asks for DH-HMAC-CHAP, and there is no secret for it"
	AuthFailed   Reason = "the secrets of the two sides do not fit"
	NoAuth       Reason = "the subsystem does not prove itself"

	NoSource    Reason = "this machine does not have the host address"
	NoInterface Reason = "this machine does not have the interface"
	NoDigest    Reason = "crc32c for the digests is not there"
	NoHandshake Reason = "no handshake daemon listens, and none is built here"
	NoPSK       Reason = "the keyring has no key of TLS for this host and subsystem"
	BadOption   Reason = "the kernel refuses an option"
	NoModule    Reason = "the kernel cannot connect to NVMe over TCP"
	NotAllowed  Reason = "only root may"
	Failed      Reason = "it failed"
)

// ConnectError is why one path could not be connected.
type ConnectError struct {
	Target Target
	Reason Reason
	// Errno is what the kernel said, Kernel the line of its log that says more, if there was one.
	Errno  syscall.Errno
	Kernel string
	// Detail says more where we found out by ourselves.
	Detail string
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect %s: %s", e.Target, e.Why())
}

// Why is the error without its target.
func (e *ConnectError) Why() string {
	s := string(e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	switch {
	case e.Kernel != "":
		s += " (kernel: " + e.Kernel + ")"
	case e.Reason == Failed && e.Errno != 0:
		s += ": " + e.Errno.Error()
	}
	return s
}

// Unwrap gives the errno, for errors.Is.
func (e *ConnectError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Code is the error's page in the docs.
func (e *ConnectError) Code() string {
	switch e.Reason {
	case Refused, Unreachable, NoAnswer, Silent, HungUp, NotNVMe:
		return "NVME-PORTAL"
	case NotFound:
		return "NVME-SUBSYSTEM"
	case HostRefused:
		return "NVME-HOST"
	case AuthRequired, AuthFailed, NoAuth:
		return "NVME-AUTH"
	case Busy:
		return "NVME-BUSY"
	case NoHandshake:
		return "NVME-TLS"
	case NoPSK:
		return "NVME-TLS-KEY"
	case NoSource, NoInterface, NoDigest, BadOption, NoModule, NotAllowed:
		return "NVME-OPTION"
	}
	return "NVME-CONNECT"
}

// Object is the subsystem.
func (e *ConnectError) Object() string { return e.Target.NQN }

// Server is the portal.
func (e *ConnectError) Server() string { return e.Target.Addr.String() }

// Hint says what to do.
func (e *ConnectError) Hint() string {
	switch e.Reason {
	case Refused:
		return "is the target's port on, and does it listen at this address?"
	case Unreachable:
		return "look at this machine's routes and links"
	case NoAnswer:
		return "is the target there, and does a firewall lie between?"
	case Silent, HungUp, NotNVMe:
		return "is this the port of an NVMe/TCP target?"
	case NotFound:
		return "initd nvme discover " + e.Target.URL() + " shows what this host may have there"
	case HostRefused:
		return "the target has to allow this host's NQN; initd nvme list shows it"
	case Busy:
		return "is this host connected there under another name, or are there too many?"
	case AuthRequired:
		return "give the secret: dhchap: {secret: …}"
	case AuthFailed:
		return "the target's secret for this host must be the same; with controller-secret it needs one of its own, too"
	case NoAuth:
		return "the target needs a secret of its own for this host, or leave controller-secret out"
	case NoDigest:
		return "load the module crc32c_generic"
	case NoHandshake:
		return "start tlshd (package ktls-utils), or leave tls out"
	case NoPSK:
		return "put it there: nvme gen-tls-key --insert, or nvme check-tls-key --insert"
	case NoModule:
		return "load the module nvme-tcp"
	case Exists:
		return "initd nvme list shows it"
	}
	return ""
}

// Elsewhere tells whether another path may work although this one does not: the portal is at fault.
func (r Reason) Elsewhere() bool {
	switch r {
	case Refused, Unreachable, NoAnswer, Silent, HungUp, NotNVMe, NotFound, Busy:
		return true
	}
	return false
}

// Retryable: every reason but those that stand in our own file may pass while nobody touches this machine.
func (e *ConnectError) Retryable() bool {
	return e.Reason != BadOption && e.Reason != NotAllowed
}

// asError turns the errno of the write, or of a dial, into a reason. line is what the kernel's log said meanwhile.
func asError(t Target, err error, line logged) *ConnectError {
	e := &ConnectError{Target: t, Reason: Failed, Kernel: line.text}
	if !errors.As(err, &e.Errno) {
		switch timeout := net.Error(nil); {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
			e.Reason = NoAnswer
		default:
			e.Detail = err.Error()
		}
		return e
	}
	if line.reason != "" && (e.Errno == unix.EIO || e.Errno == unix.EKEYREJECTED || e.Errno == unix.ENOKEY) {
		e.Reason = line.reason
		return e
	}
	e.Reason = ofErrno(e.Errno)
	return e
}

// ofErrno: what the write to /dev/nvme-fabrics answers with, measured with Linux 6.12 and 6.1.
func ofErrno(errno syscall.Errno) Reason {
	switch errno {
	case unix.ECONNREFUSED:
		return Refused
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTDOWN:
		return Unreachable
	case unix.ETIMEDOUT:
		return NoAnswer
	case unix.EAGAIN:
		return Silent // accepted, and no ICResp within 10 s
	case unix.ECONNRESET, unix.EPIPE, unix.ENOTCONN:
		return HungUp
	case unix.EPROTO, unix.EOPNOTSUPP:
		return NotNVMe
	case unix.EALREADY:
		return Exists
	case unix.EBUSY:
		return Busy
	case unix.ENOKEY:
		return AuthRequired
	case unix.EKEYREJECTED:
		return AuthFailed
	case unix.EADDRNOTAVAIL:
		return NoSource
	case unix.ENODEV:
		return NoInterface
	case unix.ENOENT:
		return NoDigest
	case unix.ESRCH:
		return NoHandshake
	case unix.EINVAL:
		return BadOption
	case unix.EACCES, unix.EPERM:
		return NotAllowed
	}
	return Failed
}
