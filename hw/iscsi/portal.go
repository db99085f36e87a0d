package iscsi

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Portal is where a target listens.
type Portal struct {
	Host string `json:"host"` // an address without brackets, or a name
	Port int    `json:"port"`
	Tag  int    `json:"tag"` // target portal group tag; -1 where none was said
}

// Address is HOST:PORT, with an IPv6 address in brackets.
func (p Portal) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// ParsePortal reads HOST, HOST:PORT, an IPv6 address with or without brackets, or [ADDRESS]:PORT. The port is
// DefaultPort where none is said.
func ParsePortal(s string) (Portal, error) {
	p := Portal{Host: s, Port: DefaultPort, Tag: -1}
	if a, err := netip.ParseAddr(s); err == nil && (a.Zone() == "" || isHostName(a.Zone())) {
		p.Host = a.String()
		return p, nil
	}
	const hint = "write HOST or HOST:PORT, with an IPv6 address and a port as [2001:db8::1]:3260"
	if rest, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(rest, "]") {
		p.Host = strings.TrimSuffix(rest, "]")
	} else if strings.Contains(s, ":") {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return Portal{}, fmt.Errorf("%q is no portal: %s", short(s), hint)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Portal{}, fmt.Errorf("%q is no portal: ports go from 1 to 65535", short(s))
		}
		p.Host, p.Port = host, int(n)
		if s[0] == '[' {
			if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
				return Portal{}, fmt.Errorf("%q is no portal: in brackets stands an IPv6 address", short(s))
			}
		}
	}
	if a, err := netip.ParseAddr(p.Host); err == nil && (a.Zone() == "" || isHostName(a.Zone())) {
		p.Host = a.String()
		return p, nil
	}
	if !isHostName(p.Host) {
		return Portal{}, fmt.Errorf("%q is no portal: %s", short(s), hint)
	}
	return p, nil
}

// isHostName: letters, digits, dash, underscore and dot, not digits and dots alone (that is a broken address).
func isHostName(s string) bool {
	if s == "" || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return !strings.Contains(s, "..") && s[0] != '.' && s[0] != '-'
}

// parseTargetAddress reads host[:port][,tag] (RFC 7143, 13.8); the error is a *ProtocolError.
func parseTargetAddress(s string) (Portal, error) {
	tag := -1
	if i := strings.LastIndexByte(s, ','); i >= 0 {
		n, ok := number(s[i+1:], 0, 65535)
		if !ok {
			return Portal{}, protocol("%s=%q", keyTargetAddress, short(s))
		}
		s, tag = s[:i], int(n)
	}
	p, err := ParsePortal(s)
	if err != nil {
		return Portal{}, protocol("%s=%q", keyTargetAddress, short(s))
	}
	p.Tag = tag
	return p, nil
}
