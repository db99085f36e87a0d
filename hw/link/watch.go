package link

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// groups are the multicast groups of what decides about a way
// (include/uapi/linux/rtnetlink.h).
const groups = unix.RTMGRP_LINK | unix.RTMGRP_NEIGH |
	unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// receiveBuffer is asked for, in bytes: bursts of route changes fit.
const receiveBuffer = 4 << 20

// Watch calls changed with the whole state, first at once and then after every
// burst of changes, until ctx ends. It subscribes before it reads, and a full
// socket buffer only means that it reads again.
func Watch(ctx context.Context, changed func(*State)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	defer f.Close()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less is only slower
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	for ctx.Err() == nil {
		s, err := Read()
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			changed(s)
		}
		if err := drain(raw); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch links: %w", err)
		}
	}
	return nil
}

// drain waits for a message and empties the socket: what they say is read
// from the kernel as a whole.
func drain(raw interface {
	Read(func(fd uintptr) bool) error
}) error {
	buf := make([]byte, 64<<10)
	heard := false
	var failure error
	err := raw.Read(func(fd uintptr) bool {
		for {
			_, _, err := unix.Recvfrom(int(fd), buf, 0)
			switch {
			case err == nil, errors.Is(err, unix.ENOBUFS):
				heard = true
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return heard
			default:
				failure = err
				return true
			}
		}
	})
	return errors.Join(failure, err)
}
