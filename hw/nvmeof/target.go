package nvmeof

import (
	"fmt"
	"net/netip"
	"strings"
)

// Target is one way to one subsystem: what the kernel tells connections apart by.
type Target struct {
	NQN  string         `json:"nqn"`
	Addr netip.AddrPort `json:"addr"`
	// HostAddr and HostIface, if given, are where the connection comes from.
	HostAddr  netip.Addr `json:"hostAddr,omitzero"`
	HostIface string     `json:"hostIface,omitempty"`
}

// String is how people write it: "nqn.… at 192.0.2.40:4420".
func (t Target) String() string { return t.NQN + " at " + t.Place() }

// Place is the portal, with where it is reached from: "192.0.2.40:4420 from eth1".
func (t Target) Place() string {
	s := t.Addr.String()
	if t.HostAddr.IsValid() {
		s += " from " + t.HostAddr.String()
	}
	if t.HostIface != "" {
		s += " through " + t.HostIface
	}
	return s
}

// URL is the portal as appliance files write it: tcp://192.0.2.40:4420.
func (t Target) URL() string { return "tcp://" + t.Addr.String() }

// Discovery tells whether the target is a discovery controller by the common name.
func (t Target) Discovery() bool { return t.NQN == DiscoveryNQN }

// CheckNQN says what is wrong with a name, if anything.
func CheckNQN(nqn string) error {
	switch {
	case nqn == "":
		return fmt.Errorf("an NQN is missing")
	case len(nqn) > MaxNQN:
		return fmt.Errorf("NQN %.40q…: %d bytes, the kernel takes %d", nqn, len(nqn), MaxNQN)
	case strings.ContainsFunc(nqn, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f || r == 0xfffd }):
		return fmt.Errorf("NQN %q: blanks, commas and control characters cannot be told to the kernel", nqn)
	case !strings.HasPrefix(nqn, "nqn."):
		return fmt.Errorf("NQN %q does not begin with \"nqn.\"", nqn)
	}
	return nil
}

// Check says what is wrong with a target, if anything.
func (t Target) Check() error {
	if err := CheckNQN(t.NQN); err != nil {
		return err
	}
	switch a := t.Addr.Addr(); {
	case !t.Addr.IsValid() || t.Addr.Port() == 0:
		return fmt.Errorf("%s: no address with a port", t.NQN)
	case a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("%s: nothing can be connected to at %s", t.NQN, a)
	case strings.ContainsAny(a.Zone(), ",\n"):
		return fmt.Errorf("%s: %q is no interface", t.NQN, a.Zone())
	case t.HostAddr.IsValid() && t.HostAddr.Unmap().Is4() != a.Unmap().Is4():
		return fmt.Errorf("%s: from %s nothing leads to %s: the families differ", t.NQN, t.HostAddr, a)
	}
	if len(t.HostIface) > 15 || strings.ContainsAny(t.HostIface, "/, :\n") {
		return fmt.Errorf("%s: %q is no interface", t.NQN, t.HostIface)
	}
	return nil
}

// ParsePlace reads HOST[:PORT] or tcp://HOST[:PORT], with IPv6 in brackets where a port follows; port is taken where none stands.
func ParsePlace(s string, port uint16) (netip.AddrPort, error) {
	text := strings.TrimSuffix(s, "/")
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		if scheme != "tcp" {
			return netip.AddrPort{}, fmt.Errorf("%q: only tcp is built, not %s", s, scheme)
		}
		text = rest
	}
	if a, err := netip.ParseAddrPort(text); err == nil && a.Port() != 0 {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
	}
	bare := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		bare = text[1 : len(text)-1]
	}
	a, err := netip.ParseAddr(bare)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address: write 192.0.2.40:4420 or [2001:db8::40]:4420; the kernel takes no names", s)
	}
	return netip.AddrPortFrom(a.Unmap(), port), nil
}
