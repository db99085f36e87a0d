package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiting is a socket that goroutines wait for without keeping one of the runtime's processors.
type waiting struct {
	f    *os.File
	conn syscall.RawConn
}

// pollable takes a socket over.
func pollable(f *os.File) (*waiting, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a socket: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("a socket that does not block: %w", err)
	}
	w := &waiting{f: os.NewFile(uintptr(fd), f.Name())}
	if w.conn, err = w.f.SyscallConn(); err != nil {
		w.f.Close()
		return nil, err
	}
	return w, nil
}

func (w *waiting) close() { w.f.Close() }

// send waits for room at most so long: the other side may have stopped to listen.
func (w *waiting) send(m message, fd int, most time.Duration) (err error) {
	if err := w.f.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	closed := w.conn.Write(func(socket uintptr) bool {
		err = send(int(socket), m, fd)
		return !errors.Is(err, unix.EAGAIN)
	})
	return cmp.Or(closed, err)
}

func (w *waiting) receive(b []byte) (m message, fd int, err error) {
	fd = -1
	closed := w.conn.Read(func(socket uintptr) bool {
		m, fd, err = receive(int(socket), b)
		return !errors.Is(err, unix.EAGAIN)
	})
	return m, fd, cmp.Or(closed, err)
}

// send writes one record, with a descriptor unless fd is negative.
func send(socket int, m message, fd int) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(socket, b, rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive waits for one record; b is room for it (maxMessage+1). At the end it returns a message without an operation. fd is -1
// without a descriptor.
func receive(socket int, b []byte) (m message, fd int, err error) {
	control := make([]byte, unix.CmsgSpace(4))
	var n, cn, flags int
	for {
		n, cn, flags, _, err = unix.Recvmsg(socket, b, control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) || err == nil && n == 0 && cn == 0 {
		return message{}, -1, nil
	}
	if err != nil {
		return message{}, -1, fmt.Errorf("receive: %w", err)
	}
	fd = -1
	if cn > 0 {
		if fd, err = descriptor(control[:cn]); err != nil {
			return message{}, -1, err
		}
	}
	if flags&unix.MSG_TRUNC != 0 {
		closeFD(fd)
		return message{}, -1, errMessage
	}
	m, err = decode(b[:n])
	if err == nil && m.op == 0 {
		err = errMessage
	}
	if err != nil {
		closeFD(fd)
		return message{}, -1, err
	}
	m.text = bytes.Clone(m.text)
	return m, fd, nil
}

// descriptor takes the one descriptor out of a control message.
func descriptor(control []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1, fmt.Errorf("receive a descriptor: %w", err)
	}
	found := -1
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			closeFD(found)
			found = fd
		}
	}
	return found, nil
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}
