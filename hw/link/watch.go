package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// groups are the multicast groups of what decides about a way (include/uapi/linux/rtnetlink.h).
const groups = unix.RTMGRP_LINK | unix.RTMGRP_NEIGH |
	unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV6_IFINFO |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

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
	bonds := &partners{missing: map[int]bool{}}
	told := event
	event = func(e Event) { bonds.note(e); told(e) }
	if err := enumerate(ctx, hw, event); err != nil {
		return err
	}
	buf := make([]byte, 64<<10) // NLMSG_GOODSIZE is a page; dumps are not read here
	for {
		if err := f.SetReadDeadline(bonds.next()); err != nil {
			return err
		}
		b, err := burst(raw, buf, hw, event)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			bonds.due = time.Time{}
			if err = enumerateInterfaces(ctx, hw, event); err == nil {
				event(Event{Kind: Settled})
			}
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

// partners knows the 802.3ad bonds. Of a partner that answers, or ceases to, the kernel tells nothing (ad_port_selection_logic
// and ad_update_actor_keys in drivers/net/bonding/bond_3ad.c change the bond and notify nobody), so those are looked at.
type partners struct {
	missing map[int]bool // by index of the bond
	due     time.Time
}

// How often: a partner that is missing is waited for, one that is there has to go without a carrier's loss.
const (
	partnerMissing = time.Second
	partnerThere   = 10 * time.Second
)

func (p *partners) note(e Event) {
	switch {
	case e.Kind == ResetAll:
		clear(p.missing)
	case e.Kind == InterfaceGone:
		delete(p.missing, e.Interface.Index)
	case e.Kind == InterfaceIs && e.Interface.Kind == "bond" && e.Interface.Bond.Mode == BondMode8023AD:
		p.missing[e.Interface.Index] = e.Interface.PartnerMissing()
	case e.Kind == InterfaceIs:
		delete(p.missing, e.Interface.Index)
	}
}

// next is when to look; zero for never. Other events do not put it off.
func (p *partners) next() time.Time {
	if len(p.missing) == 0 {
		p.due = time.Time{}
		return p.due
	}
	wait := partnerThere
	for _, m := range p.missing {
		if m {
			wait = partnerMissing
		}
	}
	if at := time.Now().Add(wait); p.due.IsZero() || at.Before(p.due) {
		p.due = at
	}
	return p.due
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
