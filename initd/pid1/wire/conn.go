package wire

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair returns a connected pair of sockets: init's end as a Conn, the other's
// as a descriptor to hand on. Both are close-on-exec.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	c, err := NewConn(fds[0])
	if err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "init-socket"), nil
}

// Conn sends and receives records. One goroutine may send while another
// receives.
type Conn struct {
	f   *os.File
	raw syscall.RawConn
}

// NewConn takes over a descriptor: it becomes non-blocking and close-on-exec.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("set nonblocking", err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "init-socket")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Conn{f: f, raw: raw}, nil
}

// Close ends the connection and whatever waits on it.
func (c *Conn) Close() error { return c.f.Close() }

// Send sends one record with copies of fds, and waits until the other side
// has room for it.
func (c *Conn) Send(r Record, fds ...int) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	if len(fds) > MaxFiles {
		return ErrMalformed
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var sent error
	if err := c.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), b[:], oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// Receive waits for one record. The caller closes the descriptors, which are
// close-on-exec. io.EOF: the other side is gone. ErrMalformed and
// ErrNotRecord do not end the connection.
func (c *Conn) Receive() (Record, []int, error) {
	var (
		buf          [RecordSize + 1]byte // one more shows what is too long
		oob          [1024]byte           // CMSG_SPACE for MaxFiles, with room
		n, oobn, flg int
		got          error
	)
	if err := c.raw.Read(func(fd uintptr) bool {
		n, oobn, flg, _, got = unix.Recvmsg(int(fd), buf[:], oob[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(got, unix.EAGAIN) && !errors.Is(got, unix.EINTR)
	}); err != nil {
		return Record{}, nil, err
	}
	if got != nil {
		return Record{}, nil, got
	}
	fds := Rights(oob[:oobn])
	if n == 0 && oobn == 0 {
		return Record{}, nil, io.EOF
	}
	r, err := Decode(buf[:n])
	if err == nil && flg&unix.MSG_CTRUNC != 0 {
		err = ErrMalformed
	}
	if err != nil {
		CloseAll(fds)
		return r, nil, err
	}
	return r, fds, nil
}

// Rights gives the descriptors that a control message brought; whoever asks closes them.
func Rights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range msgs {
		if list, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, list...)
		}
	}
	return fds
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
