package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// groups are the multicast groups of what decides about a way (include/uapi/linux/rtnetlink.h).
const groups = unix.RTMGRP_LINK | unix.RTMGRP_NEIGH |
	unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_IFINFO |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// receiveBuffer is asked for, in bytes: bursts of route changes fit.
const receiveBuffer = 4 << 20

// Watch calls changed with the state, first at once and then after every burst of changes, until ctx ends. Each state is
// the callee's to keep.
func Watch(ctx context.Context, changed func(*State)) error {
	s := &State{}
	return Events(ctx, func(e Event) {
		s.Fold(e)
		if e.Kind == Settled {
			changed(s.Clone())
		}
	})
}

// Events calls event with everything there is and then with every change, in order, until ctx ends. It subscribes before
// it enumerates; when messages were lost (ENOBUFS) it begins again, with ResetAll.
func Events(ctx context.Context, event func(Event)) error {
	hw, err := openHardware()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer hw.close()
	f, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	err = follow(ctx, f, hw, event)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch links: %w", err)
}

func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less only means more enumerations
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

// follow ends with an error, always.
func follow(ctx context.Context, f *os.File, hw *hardware, event func(Event)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := enumerate(ctx, hw, event); err != nil {
		return err
	}
	buf := make([]byte, 64<<10) // NLMSG_GOODSIZE is a page; dumps are not read here
	for {
		b, err := burst(raw, buf, hw, event)
		switch {
		case err != nil:
			return err
		case b.lost:
			err = enumerate(ctx, hw, event)
		case b.routes:
			if err = enumerateRoutes(ctx, event); err == nil {
				event(Event{Kind: Settled})
			}
		case b.heard:
			event(Event{Kind: Settled})
		}
		if err != nil {
			return err
		}
	}
}

// heard is what a burst of messages was about.
type heard struct{ heard, routes, lost bool }

// burst waits for a message and reads until the socket is empty.
func burst(raw syscall.RawConn, buf []byte, hw *hardware, event func(Event)) (heard, error) {
	var h heard
	var failure error
	err := raw.Read(func(fd uintptr) bool {
		for {
			n, from, err := unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC)
			switch {
			case err == nil && n > len(buf), errors.Is(err, unix.ENOBUFS):
				h.lost = true
			case err == nil:
				if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 { // the kernel
					h.read(buf[:n], hw, event)
				}
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return h.heard || h.routes || h.lost
			default:
				failure = err
				return true
			}
		}
	})
	return h, errors.Join(failure, err)
}

// read takes one datagram of messages. What follows a loss is thrown away: everything is listed anew.
func (h *heard) read(b []byte, hw *hardware, event func(Event)) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		h.lost = true
		return
	}
	for _, m := range messages {
		events, routes := parse(m.Header.Type, m.Data)
		h.routes = h.routes || routes
		if h.lost {
			continue
		}
		for _, e := range events {
			event(hw.complete(e))
			h.heard = true
		}
	}
}
