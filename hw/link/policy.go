package link

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Rule is a policy rule of the kernel's (ip-rule(8)), as it decides about packets of this machine's own.
type Rule struct {
	IPv4     bool
	Priority int // smaller ones are asked first
	From, To netip.Prefix
	In, Out  string // interfaces; a packet of our own comes in by the loopback
	Mark     uint32
	Mask     uint32 // of the mark; 0: no mark is asked for
	Invert   bool   // it is for what does not match
	// Unknown: it asks for more than is known of a packet here (ports, a user, a type of service, a VRF): it is passed over.
	Unknown bool

	Action uint8 // FR_ACT_*
	Table  int   // of FR_ACT_TO_TBL; 0: main
	Goto   int   // the priority that FR_ACT_GOTO leads to
	// Suppress: what its table finds by a prefix of so many bits or fewer does not count; -1: all of it does.
	Suppress int
}

// flow is a packet that is to leave: of a socket of this machine, which has no mark.
type flow struct {
	to, from netip.Addr // from may be invalid: the kernel chooses
	link     string     // that the socket is bound to; empty: none
}

// plainRules are those of a kernel without others (fib_default_rules_init in net/ipv4/fib_rules.c); its own addresses, the local table,
// are looked at elsewhere.
func plainRules() []Rule {
	return []Rule{
		{Priority: 32766, Action: unix.FR_ACT_TO_TBL, Suppress: -1},
		{Priority: 32767, Action: unix.FR_ACT_TO_TBL, Table: unix.RT_TABLE_DEFAULT, Suppress: -1},
	}
}

// rulesOf are those of a family, in their order.
func (s *State) rulesOf(is4 bool) []Rule {
	var list []Rule
	for _, r := range s.Rules {
		if r.IPv4 == is4 {
			list = append(list, r)
		}
	}
	if len(list) == 0 { // a kernel that has none, or whose rules were not read
		return plainRules()
	}
	slices.SortStableFunc(list, func(a, b Rule) int { return a.Priority - b.Priority })
	return list
}

// lookup finds the routes of a packet as the kernel does (fib_rules_lookup in net/core/fib_rules.c): rule by rule, until a table has one.
// More than one are next hops of one route.
func (s *State) lookup(f flow) []Route {
	rules := s.rulesOf(f.to.Is4())
	for n := 0; n < len(rules); n++ {
		r := rules[n]
		if !s.applies(r, f) {
			continue
		}
		switch r.Action {
		case unix.FR_ACT_TO_TBL:
			found := s.routes(f.to, f.link, r.Table)
			if len(found) == 0 || found[0].Type == unix.RTN_THROW || found[0].To.Bits() <= r.Suppress {
				continue
			}
			return found
		case unix.FR_ACT_GOTO: // forwards only; one that leads nowhere is passed over
			if to := slices.IndexFunc(rules, func(o Rule) bool { return o.Priority == r.Goto }); to > n {
				n = to - 1
			}
		case unix.FR_ACT_BLACKHOLE, unix.FR_ACT_UNREACHABLE, unix.FR_ACT_PROHIBIT:
			return []Route{{To: netip.PrefixFrom(f.to, f.to.BitLen()), Refused: true}}
		}
	}
	return nil
}

// applies is fib_rule_match.
func (s *State) applies(r Rule, f flow) bool {
	if r.Unknown {
		return false
	}
	loop := slices.ContainsFunc(s.Interfaces, func(i Interface) bool { return i.Loop && i.Name == r.In })
	match := (r.In == "" || loop) && (r.Out == "" || r.Out == f.link) && r.Mark&r.Mask == 0 &&
		(!r.To.IsValid() || r.To.Contains(f.to)) && (!r.From.IsValid() || r.From.Bits() == 0 || f.from.IsValid() && r.From.Contains(f.from))
	return match != r.Invert
}

// parseRule reads struct fib_rule_hdr (include/uapi/linux/fib_rules.h).
func parseRule(b []byte) (Rule, bool) {
	const header = 12
	if len(b) < header || !inet(b[0]) {
		return Rule{}, false
	}
	family, table, flags := b[0], uint32(b[4]), number(b[8:])
	r := Rule{IPv4: family == unix.AF_INET, Action: b[7], Suppress: -1, Invert: flags&unix.FIB_RULE_INVERT != 0, Unknown: b[3] != 0}
	prefix := func(v []byte, bits byte, into *netip.Prefix) {
		if a, ok := address(family, v); ok {
			*into = netip.PrefixFrom(a, int(bits))
		}
		r.Unknown = r.Unknown || !into.IsValid()
	}
	attributes(b[header:], func(typ uint16, v []byte) {
		switch typ {
		case unix.FRA_DST:
			prefix(v, b[1], &r.To)
		case unix.FRA_SRC:
			prefix(v, b[2], &r.From)
		case unix.FRA_IIFNAME:
			r.In = text(v)
		case unix.FRA_OIFNAME:
			r.Out = text(v)
		case unix.FRA_PRIORITY:
			r.Priority = int(number(v))
		case unix.FRA_GOTO:
			r.Goto = int(number(v))
		case unix.FRA_FWMARK:
			r.Mark = number(v)
		case unix.FRA_FWMASK:
			r.Mask = number(v)
		case unix.FRA_TABLE:
			table = number(v)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.Suppress = int(int32(number(v)))
		case unix.FRA_L3MDEV:
			r.Unknown = r.Unknown || len(v) > 0 && v[0] != 0
		case unix.FRA_TUN_ID, unix.FRA_UID_RANGE, unix.FRA_IP_PROTO, unix.FRA_SPORT_RANGE, unix.FRA_DPORT_RANGE:
			r.Unknown = true
		}
	})
	if table != unix.RT_TABLE_MAIN {
		r.Table = int(table)
	}
	return r, true
}
