package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// allRouters is where solicitations go.
var allRouters = netip.MustParseAddr("ff02::2")

func sendSolicitation(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("ask routers on %s: %w", name, err)
	}
	defer unix.Close(fd)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, i.Index),
	)
	if err == nil {
		err = unix.Sendto(fd, []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}, 0, &unix.SockaddrInet6{Addr: allRouters.As16(), ZoneId: uint32(i.Index)})
	}
	if err != nil {
		return fmt.Errorf("ask routers on %s: %w", name, err)
	}
	return nil
}

// Options of neighbour discovery that the kernel hands on (RFC 8106; ndisc_ra_useropt in net/ipv6/ndisc.c).
const (
	rtmNewNDUserOpt  = 68 // RTM_NEWNDUSEROPT
	rtnlgrpNDUserOpt = 20 // RTNLGRP_ND_USEROPT
	sizeofNDUserOpt  = 16 // struct nduseroptmsg
	// routerSolicitation has no options here (RFC 4861, 4.1); the kernel fills in the checksum.
	routerSolicitation = 133
	icmpAdvertisement  = 134
	optionRDNSS        = 25
	optionDNSSL        = 31
)

// RouterDNS is what a router says about name servers.
type RouterDNS struct {
	Index    int // interface
	Servers  []netip.Addr
	Search   []string
	Lifetime time.Duration // 0: they are not to be used any more
}

// WatchRouterDNS calls heard for each word of a router about name servers, until ctx ends. What was said before is not
// told: routers repeat themselves, and AwaitRouters asks them to.
func WatchRouterDNS(ctx context.Context, heard func(RouterDNS)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("hear routers: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (rtnlgrpNDUserOpt - 1)}); err != nil {
		unix.Close(fd)
		return fmt.Errorf("hear routers: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // they say it again
			continue
		case err != nil:
			return fmt.Errorf("hear routers: %w", err)
		}
		for _, m := range splitMessages(buf[:n]) {
			if d, ok := parseRouterDNS(m); ok {
				heard(d)
			}
		}
	}
}

// splitMessages returns the payloads of those messages of a datagram that are of type RTM_NEWNDUSEROPT.
func splitMessages(b []byte) [][]byte {
	var list [][]byte
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return list
		}
		if binary.NativeEndian.Uint16(b[4:]) == rtmNewNDUserOpt {
			list = append(list, b[unix.SizeofNlMsghdr:length])
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return list
}

// parseRouterDNS reads struct nduseroptmsg and the option behind it.
func parseRouterDNS(b []byte) (RouterDNS, bool) {
	if len(b) < sizeofNDUserOpt || b[0] != unix.AF_INET6 || b[8] != icmpAdvertisement {
		return RouterDNS{}, false
	}
	d := RouterDNS{Index: int(int32(number(b[4:])))}
	o := b[sizeofNDUserOpt:]
	if length := int(binary.NativeEndian.Uint16(b[2:])); length < len(o) {
		o = o[:length]
	}
	if len(o) < 8 || int(o[1])*8 > len(o) || o[1] == 0 {
		return RouterDNS{}, false
	}
	o = o[:int(o[1])*8]
	d.Lifetime = time.Duration(binary.BigEndian.Uint32(o[4:])) * time.Second
	switch o[0] {
	case optionRDNSS:
		for a := o[8:]; len(a) >= 16 && len(d.Servers) < maxLeaseServers; a = a[16:] {
			if s := netip.AddrFrom16([16]byte(a)); !s.IsMulticast() && !s.IsUnspecified() && !s.Is4In6() && !slices.Contains(d.Servers, s) {
				d.Servers = append(d.Servers, s)
			}
		}
	case optionDNSSL:
		d.Search = domains(o[8:])
	}
	return d, d.Index > 0 && len(d.Servers)+len(d.Search) > 0
}

// domains reads names one behind the other (RFC 1035, 3.1, without compression), padded with zeros.
func domains(b []byte) []string {
	var list []string
	name := ""
	for len(b) > 0 && len(list) < maxLeaseSearch {
		n := int(b[0])
		b = b[1:]
		if n == 0 {
			if name = hostName(name); name != "" && !slices.Contains(list, name) {
				list = append(list, name)
			}
			name = ""
			continue
		}
		if n > 63 || n > len(b) {
			return list
		}
		if name != "" {
			name += "."
		}
		name += string(b[:n])
		b = b[n:]
	}
	return list
}
