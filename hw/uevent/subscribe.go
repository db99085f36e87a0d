package uevent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Source says whose events to hear.
type Source uint32

// The multicast groups of NETLINK_KOBJECT_UEVENT.
const (
	// Kernel is the kernel itself: the device exists, its node is in devtmpfs.
	Kernel Source = 1
	// Udev is udevd, once it has processed the kernel's event: its links, permissions and database entry are there.
	// Where udevd runs, that and not the kernel's event is what makes a device ready for use.
	Udev Source = 2
)

// receiveBuffer is the size in bytes asked for the socket. A cold boot's burst of a few hundred events overflows the
// default (about 208 KiB, with the kernel's accounting of some 700 bytes a message upwards); udevd itself takes 128 MiB.
// It is a limit, not an allocation.
const receiveBuffer = 128 << 20

// maxMessage is far above what a sender can build: UEVENT_BUFFER_SIZE is 2 KiB, udevd's properties stay below 8 KiB.
const maxMessage = 64 << 10

// waiting is how many events are kept beside the kernel's queue, so that a reader can take them together.
const waiting = 64

// Subscribe hears events from now on. The channel closes when ctx ends or, after an event with the action Failed, when the
// socket breaks. A reader that is too slow gets Overflow, never a silent gap; one that is busy finds what came meanwhile in the
// channel. Messages that do not come from the source, or that do not parse, are dropped.
func Subscribe(ctx context.Context, source Source) (<-chan Event, error) {
	return subscribe(ctx, source, receiveBuffer)
}

func subscribe(ctx context.Context, source Source, buffer int) (<-chan Event, error) {
	socket, err := listen(source, buffer)
	if err != nil {
		return nil, fmt.Errorf("listen for device events: %w", err)
	}
	events := make(chan Event, waiting)
	send := func(event Event) bool {
		select {
		case events <- event:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(events)
		for {
			err := receive(ctx, socket, source, send)
			if ctx.Err() != nil {
				return
			}
			// Once a socket has overflowed the kernel drops every further message for it, without another ENOBUFS, until a
			// read has emptied its queue (NETLINK_S_CONGESTED, net/netlink/af_netlink.c); and nothing keeps the sender from
			// setting that mark just after the last such read. A new socket has neither trouble. What was queued in the old
			// one the consumer is about to enumerate.
			if errors.Is(err, errOverflow) {
				socket, err = listen(source, buffer)
			}
			if err != nil {
				send(Event{Action: Failed, Err: fmt.Errorf("receive device events: %w", err)})
				return
			}
			if !send(Event{Action: Overflow}) {
				socket.Close()
				return
			}
		}
	}()
	return events, nil
}

func listen(source Source, buffer int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// Without CAP_NET_ADMIN the limit net.core.rmem_max holds; the subscription still works, with more overflows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("SO_PASSCRED: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: uint32(source)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevent"), nil
}

// errOverflow ends receive where events were lost: too many, or one that is too long.
var errOverflow = errors.New("events were lost")

// receive sends what comes until ctx ends or the socket fails, and closes the socket.
func receive(ctx context.Context, socket *os.File, source Source, send func(Event) bool) error {
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer socket.Close()
	defer stop()
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	parse := ParseKernel
	if source == Udev {
		parse = ParseUdev
	}
	message := make([]byte, maxMessage)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		var n int
		var trusted bool
		var received error
		waited := conn.Read(func(fd uintptr) bool {
			n, trusted, received = receiveOne(int(fd), source, message, control)
			return !errors.Is(received, unix.EAGAIN)
		})
		switch {
		case waited != nil:
			return waited
		case errors.Is(received, unix.EINTR):
			continue
		case errors.Is(received, unix.ENOBUFS), errors.Is(received, unix.EMSGSIZE):
			return errOverflow
		case received != nil:
			return received
		case !trusted:
			continue
		}
		if event, err := parse(message[:n]); err == nil && !send(event) {
			return ctx.Err()
		}
	}
}

// receiveOne takes one message and says whether it is from whom the group belongs to: the kernel sends from port 0;
// udevd is root and has a port. Anybody else with CAP_NET_ADMIN in some network namespace could send too.
func receiveOne(fd int, source Source, message, control []byte) (n int, trusted bool, err error) {
	n, controlled, flags, from, err := unix.Recvmsg(fd, message, control, 0)
	if err != nil {
		return 0, false, err
	}
	if flags&unix.MSG_TRUNC != 0 {
		return 0, false, unix.EMSGSIZE
	}
	address, ok := from.(*unix.SockaddrNetlink)
	if !ok || address.Groups != uint32(source) {
		return n, false, nil
	}
	if source == Kernel {
		return n, address.Pid == 0, nil
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlled])
	if err != nil {
		return n, false, nil
	}
	for _, m := range messages {
		if credentials, err := unix.ParseUnixCredentials(&m); err == nil {
			return n, address.Pid != 0 && credentials.Uid == 0, nil
		}
	}
	return n, false, nil
}
