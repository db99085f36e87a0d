package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RuleConfig is a policy rule (ip-rule(8)): which packets a routing table is asked for.
type RuleConfig struct {
	From, To netip.Prefix // invalid: any
	Link     string       // kernel's name of the interface that they came in by; empty: any
	Mark     int          // 0: any
	Table    int
	Priority int
	IPv4     bool // of which family, where neither From nor To says
}

func (c RuleConfig) family() int {
	switch {
	case c.From.IsValid() && c.From.Addr().Is4(), c.To.IsValid() && c.To.Addr().Is4(), !c.From.IsValid() && !c.To.IsValid() && c.IPv4:
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// CheckRule compares; nothing is changed. Different is another rule of the same family with the same priority, of which the kernel
// takes several.
func CheckRule(c RuleConfig) (Answer, string, error) {
	list, err := netlink.RuleList(c.family())
	if err != nil {
		return "", "", fmt.Errorf("rule %d: %w", c.Priority, err)
	}
	other := ""
	for _, r := range list {
		if r.Priority != c.Priority {
			continue
		}
		if r.Table == c.Table && prefixIs(r.Src, c.From) && prefixIs(r.Dst, c.To) && r.IifName == c.Link && r.Mark == uint32(c.Mark) {
			return Same, "", nil
		}
		other = fmt.Sprintf("another rule has its priority: %s", r.String())
	}
	if other != "" {
		return Different, other, nil
	}
	return Absent, "", nil
}

// prefixIs compares; the kernel tells nothing of a prefix of no bits.
func prefixIs(n *net.IPNet, p netip.Prefix) bool {
	if n == nil || p.Bits() <= 0 {
		return n == nil && p.Bits() <= 0
	}
	ones, _ := n.Mask.Size()
	a, ok := netip.AddrFromSlice(n.IP)
	return ok && a.Unmap() == p.Addr() && ones == p.Bits()
}

// AddRule adds the rule; that it is there already is fine.
func AddRule(c RuleConfig) error {
	r := netlink.NewRule()
	r.Family, r.Table, r.Priority, r.IifName = c.family(), c.Table, c.Priority, c.Link
	if c.From.IsValid() {
		r.Src = ipnet(c.From)
	}
	if c.To.IsValid() {
		r.Dst = ipnet(c.To)
	}
	if c.Mark != 0 {
		r.Mark = uint32(c.Mark)
	}
	if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rule %d (table %d): %w", c.Priority, c.Table, err)
	}
	return nil
}
