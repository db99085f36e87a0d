package iscsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs"
)

// netlinkISCSI is the kernel's family for iSCSI (NETLINK_ISCSI, include/uapi/linux/netlink.h).
const netlinkISCSI = 8

// Layout of a message: nlmsghdr, struct iscsi_uevent, payload (include/scsi/iscsi_if.h). Offsets of the union are from the
// beginning of the event.
const (
	nlHeader   = 16
	ueventSize = 56
	offRequest = 16 // u: what is asked for
	offReply   = 40 // r: what came of it
)

// Requests (enum iscsi_uevent_e).
const (
	reqCreateSession  = 11
	reqDestroySession = 12
	reqCreateConn     = 13
	reqDestroyConn    = 14
	reqBindConn       = 15
	reqSetParam       = 16
	reqStartConn      = 17
	reqStopConn       = 18
	reqSendPDU        = 19
	reqUnbindSession  = 27
)

// Events.
const (
	evRecvPDU   = 101
	evConnError = 102
	evIfError   = 103
	evDestroyed = 104
	evUnbound   = 105
)

// Flags of STOP_CONN.
const (
	stopTerm    = 1
	stopRecover = 3
)

// KernelError is a request that the kernel did not grant.
type KernelError struct {
	Op    string
	Errno unix.Errno
}

func (e *KernelError) Error() string { return "iscsi_tcp: " + e.Op + ": " + e.Errno.Error() }
func (e *KernelError) Unwrap() error { return e.Errno }

// Code is the stable code of this error.
func (*KernelError) Code() string { return "ISCSI-KERNEL" }

// Hint says what to do.
func (e *KernelError) Hint() string {
	if e.Errno == unix.ENOMEM || e.Errno == unix.ENOENT {
		return "look whether the module crc32c is there (modprobe crc32c), and at dmesg"
	}
	return "look at dmesg"
}

// ErrNoTransport says that the kernel has no software iSCSI, or that this process may not use it.
var ErrNoTransport = errors.New("the kernel has no software iSCSI here (module iscsi_tcp; it works in the first network namespace only)")

// Modules are what a session needs, those that are no names of files included.
func Modules() []string { return []string{"crc32c", "iscsi_tcp", "sd_mod"} }

// Ready tells whether all of Modules is in the kernel already, whichever way; finding out what they are takes longer.
func Ready(sys *sysfs.FS) bool {
	for _, name := range []string{"sys/class/iscsi_transport/tcp/handle", "sys/bus/scsi/drivers/sd/uevent"} {
		if !sys.Exists(name) {
			return false
		}
	}
	ciphers, err := sys.Bytes("proc/crypto", maxCiphers)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(ciphers)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "name" && strings.TrimSpace(value) == "crc32c" {
			return true
		}
	}
	return false
}

// maxCiphers bounds /proc/crypto, bytes: some two hundred entries of two hundred bytes.
const maxCiphers = 1 << 20

// Kernel is a way to the kernel's software iSCSI: requests, one at a time, as the kernel takes them. It is safe for
// concurrent use. Requests can sleep in the kernel.
type Kernel struct {
	sys    *sysfs.FS
	handle uint64
	listen func(context.Context) (<-chan Event, error)
	disks  arrivals
	turns  turns
	moved  func(Record) error // keeps the record of a session whose target has moved for good; nil: nobody does

	mu sync.Mutex
	fd int // guarded by mu
}

// OpenKernel opens it; sys is the root of /sys. ErrNoTransport without the module.
func OpenKernel(sys *sysfs.FS) (*Kernel, error) {
	text, err := sys.String("sys/class/iscsi_transport/tcp/handle")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrNoTransport
		}
		return nil, fmt.Errorf("open iscsi_tcp: %w", err)
	}
	handle, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("open iscsi_tcp: handle %q", text)
	}
	fd, err := openNetlink(0)
	if err != nil {
		return nil, err
	}
	return &Kernel{sys: sys, handle: handle, listen: Listen, fd: fd}, nil
}

// Close ends it; sessions live on.
func (k *Kernel) Close() error {
	k.disks.close()
	return unix.Close(k.fd)
}

func openNetlink(groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, netlinkISCSI)
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return -1, ErrNoTransport
		}
		return -1, fmt.Errorf("open iscsi_tcp: netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			return -1, fmt.Errorf("open iscsi_tcp: %w (it needs root)", err)
		}
		return -1, fmt.Errorf("open iscsi_tcp: bind: %w", err)
	}
	return fd, nil
}

// message is a request in the making.
type message struct {
	typ     uint32
	event   [ueventSize]byte
	payload []byte
}

func (k *Kernel) message(typ uint32) *message {
	m := &message{typ: typ}
	m.u32(0, typ)
	m.u64(8, k.handle)
	return m
}

// about names a session and its one connection, as most requests do.
func (k *Kernel) about(typ, sid uint32) *message { return k.message(typ).u32(offRequest, sid) }

func (m *message) u16(at int, v uint16) *message {
	binary.NativeEndian.PutUint16(m.event[at:], v)
	return m
}
func (m *message) u32(at int, v uint32) *message {
	binary.NativeEndian.PutUint32(m.event[at:], v)
	return m
}
func (m *message) u64(at int, v uint64) *message {
	binary.NativeEndian.PutUint64(m.event[at:], v)
	return m
}

func (m *message) encode() []byte {
	b := make([]byte, nlHeader, nlHeader+ueventSize+len(m.payload))
	binary.NativeEndian.PutUint32(b[0:], uint32(nlHeader+ueventSize+len(m.payload)))
	binary.NativeEndian.PutUint16(b[4:], uint16(m.typ))
	b = append(b, m.event[:]...)
	return append(b, m.payload...)
}

// replyWait is how long a reply may take, which the kernel has put into the socket before the request returned.
const replyWait = 10 * time.Second

// call makes a request and returns the event as the kernel filled it in.
func (k *Kernel) call(op string, m *message) (event [ueventSize]byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := unix.Write(k.fd, m.encode()); err != nil { // to the kernel, where the socket is not connected to anybody
		return event, fmt.Errorf("iscsi_tcp: %s: send: %w", op, err)
	}
	var buf [nlHeader + ueventSize]byte
	until := time.Now().Add(replyWait)
	for {
		n, _, err := unix.Recvfrom(k.fd, buf[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && time.Now().Before(until):
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}, 1000); err != nil && err != unix.EINTR {
				return event, fmt.Errorf("iscsi_tcp: %s: poll: %w", op, err)
			}
			continue
		case err != nil:
			return event, fmt.Errorf("iscsi_tcp: %s: receive: %w", op, err)
		case n < len(buf):
			return event, fmt.Errorf("iscsi_tcp: %s: an answer of %d bytes", op, n)
		}
		break
	}
	copy(event[:], buf[nlHeader:])
	if typ := binary.NativeEndian.Uint32(event[0:]); typ == evIfError {
		return event, &KernelError{Op: op, Errno: unix.Errno(-int32(binary.NativeEndian.Uint32(event[4:])))}
	} else if typ != m.typ {
		return event, fmt.Errorf("iscsi_tcp: %s: the answer is to request %d", op, typ)
	}
	return event, nil
}

// coded makes a request whose answer has a return code.
func (k *Kernel) coded(op string, m *message) error {
	event, err := k.call(op, m)
	if err != nil {
		return err
	}
	if code := int32(binary.NativeEndian.Uint32(event[offReply:])); code != 0 {
		return &KernelError{Op: op, Errno: unix.Errno(-code)}
	}
	return nil
}

// createSession returns the session's and the host's number.
func (k *Kernel) createSession(cmdSN uint32, commands, depth uint16) (sid, host uint32, err error) {
	event, err := k.call("create a session", k.message(reqCreateSession).u32(offRequest, cmdSN).u16(offRequest+4, commands).u16(offRequest+6, depth))
	return binary.NativeEndian.Uint32(event[offReply:]), binary.NativeEndian.Uint32(event[offReply+4:]), err
}

func (k *Kernel) createConn(sid uint32) error {
	_, err := k.call("create a connection", k.about(reqCreateConn, sid))
	return err
}

// bind gives the connection a TCP socket of this process; the kernel keeps a reference of its own.
func (k *Kernel) bind(sid uint32, fd uintptr) error {
	return k.coded("bind the connection", k.about(reqBindConn, sid).u64(offRequest+8, uint64(fd)).u32(offRequest+16, 1))
}

func (k *Kernel) setParam(sid, id uint32, value string) error {
	m := k.about(reqSetParam, sid).u32(offRequest+8, id).u32(offRequest+12, uint32(len(value)+1))
	m.payload = append([]byte(value), 0)
	_, err := k.call(fmt.Sprintf("set parameter %d", id), m)
	return err
}

func (k *Kernel) start(sid uint32) error {
	return k.coded("start the connection", k.about(reqStartConn, sid))
}

func (k *Kernel) stop(sid, flag uint32) error {
	_, err := k.call("stop the connection", k.about(reqStopConn, sid).u32(offRequest+16, flag))
	return err
}

func (k *Kernel) unbind(sid uint32) error {
	_, err := k.call("unbind the session", k.about(reqUnbindSession, sid))
	return err
}

func (k *Kernel) destroy(sid uint32) error {
	_, connErr := k.call("destroy the connection", k.about(reqDestroyConn, sid))
	if errors.Is(connErr, unix.EINVAL) || errors.Is(connErr, unix.ENODEV) { // there is none
		connErr = nil
	}
	_, err := k.call("destroy the session", k.about(reqDestroySession, sid))
	return errors.Join(connErr, err)
}

func (k *Kernel) send(sid uint32, p *pdu) error {
	m := k.about(reqSendPDU, sid).u32(offRequest+8, headerSize).u32(offRequest+12, uint32(len(p.data)))
	m.payload = append(append([]byte(nil), p.header[:]...), p.data...)
	return k.coded("send a PDU", m)
}

// sendWhenFree sends a PDU of a login: the kernel tells of an answer before it has freed the request's task, so that the
// next one may be a few milliseconds too early (retcode -EPERM, drivers/scsi/libiscsi.c).
func (k *Kernel) sendWhenFree(ctx context.Context, sid uint32, p *pdu) error {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		err := k.send(sid, p)
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOMEM) {
			return err
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// Write of a sysfs attribute; it can sleep in the kernel.
func writeAttribute(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// unset is how sysfs shows a text that was never set.
func unset(s string) string {
	if s == "(null)" || s == "<NULL>" {
		return ""
	}
	return strings.TrimSpace(s)
}
