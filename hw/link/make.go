package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Made says that an interface is made rather than found: exactly one field is set.
type Made struct {
	Bond   *BondConfig
	VLAN   *VLANConfig
	Bridge *BridgeConfig
	Dummy  bool
}

func (m Made) given() bool { return m != (Made{}) }

// kind is the kernel's name of what is made; also that of the module which makes it, but for VLANs.
func (m Made) kind() string {
	switch {
	case m.Bond != nil:
		return "bond"
	case m.VLAN != nil:
		return "vlan"
	case m.Bridge != nil:
		return "bridge"
	}
	return "dummy"
}

// parts are the interfaces that it takes for itself.
func (m Made) parts() []Match {
	switch {
	case m.Bond != nil:
		return m.Bond.Members
	case m.Bridge != nil:
		return m.Bridge.Ports
	}
	return nil
}

// BondConfig is a bond.
type BondConfig struct {
	Mode    int // BondMode8023AD or BondModeActiveBackup
	Members []Match
	MIIMon  time.Duration // 0: 100 ms
	Fast    bool          // 802.3ad: the partner is asked to speak every second
	Hash    string        // 802.3ad: layer2, layer2+3, layer3+4 (default)
	Primary Match         // active-backup
	Min     int           // 802.3ad: members that have to work
	// Partner is how long the switch of an 802.3ad bond is waited for.
	Partner time.Duration
}

// VLANConfig is a VLAN.
type VLANConfig struct {
	ID       int
	On       Match
	Provider bool // 802.1ad in the place of 802.1Q
}

// BridgeConfig is a bridge.
type BridgeConfig struct {
	Ports []Match
	STP   bool
	Delay time.Duration // before a port forwards, with STP; 0: the kernel's 15 s
}

// defaultMIIMon is how often a bond looks at its members.
const defaultMIIMon = 100 * time.Millisecond

// object is what the kernel is asked to make.
func (m Made) object(name string, s *State) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	switch {
	case m.Bond != nil:
		return m.Bond.object(attrs), nil
	case m.VLAN != nil:
		on, err := s.Find(m.VLAN.On)
		if err != nil {
			return nil, err
		}
		attrs.ParentIndex = on.Index
		v := &netlink.Vlan{LinkAttrs: attrs, VlanId: m.VLAN.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		if m.VLAN.Provider {
			v.VlanProtocol = netlink.VLAN_PROTOCOL_8021AD
		}
		return v, nil
	case m.Bridge != nil:
		return &netlink.Bridge{LinkAttrs: attrs}, nil
	}
	return &netlink.Dummy{LinkAttrs: attrs}, nil
}

func (c *BondConfig) object(attrs netlink.LinkAttrs) *netlink.Bond {
	b := netlink.NewLinkBond(attrs)
	b.Mode = netlink.BondMode(c.Mode)
	b.Miimon = int(defaultMIIMon / time.Millisecond)
	if c.MIIMon > 0 {
		b.Miimon = int(c.MIIMon / time.Millisecond)
	}
	if c.Mode != BondMode8023AD {
		return b
	}
	b.LacpRate = netlink.BOND_LACP_RATE_SLOW
	if c.Fast {
		b.LacpRate = netlink.BOND_LACP_RATE_FAST
	}
	b.XmitHashPolicy = netlink.BOND_XMIT_HASH_POLICY_LAYER3_4
	if c.Hash != "" {
		b.XmitHashPolicy = netlink.StringToBondXmitHashPolicy(c.Hash)
	}
	if c.Min > 0 {
		b.MinLinks = c.Min
	}
	return b
}

// differs says how an interface of that name is something else than m; "" if it is that.
func (m Made) differs(i Interface, s *State) string {
	if i.Kind != m.kind() {
		if i.Kind == "" {
			return fmt.Sprintf("%s is a network card, not a %s", i.Name, m.kind())
		}
		return fmt.Sprintf("%s is a %s, not a %s", i.Name, i.Kind, m.kind())
	}
	switch {
	case m.Bond != nil && i.Bond.Mode != m.Bond.Mode:
		return fmt.Sprintf("the mode of %s is %s, not %s", i.Name, netlink.BondMode(i.Bond.Mode), netlink.BondMode(m.Bond.Mode))
	case m.VLAN != nil && i.VLAN.ID != m.VLAN.ID:
		return fmt.Sprintf("%s is VLAN %d, not %d", i.Name, i.VLAN.ID, m.VLAN.ID)
	case m.VLAN != nil && (i.VLAN.Protocol == unix.ETH_P_8021AD) != m.VLAN.Provider:
		return fmt.Sprintf("%s has the other VLAN protocol", i.Name)
	case m.VLAN != nil:
		if on, err := s.Find(m.VLAN.On); err == nil && i.Lower != on.Index {
			lower, _ := s.byIndex(i.Lower)
			return fmt.Sprintf("%s is on %s, not on %s", i.Name, lower.Name, on.Name)
		}
	}
	return ""
}

// lacks says which of its parts an interface does not have yet, of those that are there; "" if none.
func (m Made) lacks(i Interface, s *State) string {
	for _, p := range m.parts() {
		if part, err := s.Find(p); err == nil && part.Master != i.Index {
			return fmt.Sprintf("%s is not a part of %s", part.Name, i.Name)
		}
	}
	return ""
}

// make makes the interface unless it is there, and puts its parts into it.
func (c Config) make(ctx context.Context, s *State, waiting func(string)) error {
	i, err := s.Find(Match{Name: c.Name})
	if err != nil {
		l, err := c.Make.object(c.Name, s)
		if err != nil {
			return fmt.Errorf("link %s: %w", c.Name, err)
		}
		err = netlink.LinkAdd(l)
		if errors.Is(err, unix.EEXIST) && c.Make.Bond != nil {
			err = c.Make.Bond.takeStray(c.Name)
		}
		if err != nil {
			return c.makeError(err)
		}
	} else if c.Make.Bond != nil && s.stray(i) {
		if err := c.Make.Bond.takeStray(c.Name); err != nil {
			return c.makeError(err)
		}
	} else if why := c.Make.differs(i, s); why != "" {
		return fmt.Errorf("link %s: %s", c.Name, why)
	}
	if b := c.Make.Bridge; b != nil {
		l, err := netlink.LinkByName(c.Name)
		if err == nil {
			err = b.setUp(l.Attrs().Index)
		}
		if err != nil {
			return fmt.Errorf("link %s: %w", c.Name, err)
		}
	}
	if err := c.awaitParts(ctx, waiting); err != nil {
		return err
	}
	return c.join()
}

// takeStray makes ours of a bond that nobody uses. The module makes one named bond0 of its own, of another mode, when it is
// loaded without max_bonds=0 (bond_init, drivers/net/bonding/bond_main.c), which may be in the moment in which we ask for ours.
func (b *BondConfig) takeStray(name string) error {
	s, err := Read()
	if err != nil {
		return err
	}
	i, err := s.Find(Match{Name: name})
	if err != nil {
		return err
	}
	if !s.stray(i) {
		return fmt.Errorf("an interface of that name is there already: %w", unix.EEXIST)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = name, i.Index
	return netlink.LinkModify(b.object(attrs))
}

// stray is a bond that nobody uses: it is down and has no members.
func (s *State) stray(i Interface) bool {
	return i.Kind == "bond" && !i.Up && !slices.ContainsFunc(s.Interfaces, func(p Interface) bool { return p.Master == i.Index })
}

func (c Config) makeError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		module := c.Make.kind()
		switch module {
		case "vlan":
			module = "8021q"
		case "bond":
			module = "bonding"
		}
		return fmt.Errorf("link %s: the kernel cannot make a %s: its module %s is not loaded", c.Name, c.Make.kind(), module)
	}
	return fmt.Errorf("link %s: make a %s: %w", c.Name, c.Make.kind(), err)
}

// partsSoon is how long parts that are not there yet are waited for before the others begin without them: so a bond gets
// the address of its first member at each boot, whichever driver is the faster.
const partsSoon = 3 * time.Second

// awaitParts waits for all of the parts for a moment.
func (c Config) awaitParts(ctx context.Context, waiting func(string)) error {
	soon, cancel := context.WithTimeout(ctx, partsSoon)
	defer cancel()
	said := ""
	err := Watch(soon, func(s *State) {
		missing := ""
		for _, p := range c.Make.parts() {
			if _, err := s.Find(p); err != nil && missing == "" {
				missing = err.Error()
			}
		}
		switch {
		case missing == "":
			cancel()
		case missing != said:
			waiting("a part of " + c.Name + ": " + missing)
			said = missing
		}
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", c.Name, err)
	}
	return nil
}

// join puts the parts that are there into the interface.
func (c Config) join() error {
	s, err := Read()
	if err != nil {
		return fmt.Errorf("link %s: %w", c.Name, err)
	}
	i, err := s.Find(Match{Name: c.Name})
	if err != nil {
		return fmt.Errorf("link %s: %w", c.Name, err)
	}
	var failed []error
	for _, m := range c.Make.parts() {
		p, err := s.Find(m)
		if err != nil || p.Master == i.Index {
			continue // it joins when it comes
		}
		if err := c.joinOne(s, i, p); err != nil {
			failed = append(failed, fmt.Errorf("link %s: put %s into it: %w", c.Name, p.Name, err))
		}
	}
	if b := c.Make.Bond; b != nil && b.Mode == BondModeActiveBackup && b.Primary != (Match{}) {
		if p, err := s.Find(b.Primary); err == nil {
			failed = append(failed, setPrimary(c.Name, i.Index, p.Index))
		}
	}
	return errors.Join(failed...)
}

// ErrCarries says that an interface is not touched because a disk is reached over it.
var ErrCarries = errors.New("it must stay up")

func (c Config) joinOne(s *State, i, p Interface) error {
	if p.Master != 0 {
		other, _ := s.byIndex(p.Master)
		return fmt.Errorf("it is a part of %s already", other.Name)
	}
	l, err := netlink.LinkByIndex(p.Index)
	if err != nil {
		return err
	}
	if c.Make.Bond != nil && p.Up { // a bond takes no interface that is up (bond_enslave, drivers/net/bonding/bond_main.c)
		if err := c.takeDown(p, l); err != nil {
			return err
		}
	} else if what := c.carries(p); what != "" {
		return fmt.Errorf("%s is reached over it, and its addresses would be of no use there: %w", what, ErrCarries)
	}
	if err := netlink.LinkSetMasterByIndex(l, i.Index); err != nil {
		return err
	}
	if c.Make.Bridge != nil {
		return netlink.LinkSetUp(l) // a bond does that by itself
	}
	return nil
}

// carries names the disk that is reached over an interface; "" if none is.
func (c Config) carries(i Interface) string {
	if c.Carries == nil {
		return ""
	}
	return c.Carries(i)
}

// takeDown refuses for an interface over which a disk is reached.
func (c Config) takeDown(i Interface, l netlink.Link) error {
	if what := c.carries(i); what != "" {
		return fmt.Errorf("%s is reached over it: %w", what, ErrCarries)
	}
	return netlink.LinkSetDown(l)
}

// setPrimary does what LinkModify of a whole bond would do at a greater cost: it changes one attribute.
func setPrimary(name string, bond, primary int) error {
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: name, Index: bond})
	b.Primary = primary
	if err := netlink.LinkModify(b); err != nil {
		return fmt.Errorf("link %s: set its primary member: %w", name, err)
	}
	return nil
}

// setUp tells a bridge what the file says, and takes what it has already. RTM_NEWLINK changes what is there.
func (b *BridgeConfig) setUp(index int) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	request.AddData(header)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(iflaBridgeSTPState, nl.Uint32Attr(map[bool]uint32{true: 1}[b.STP]))
	if b.Delay > 0 {
		data.AddRtAttr(iflaBridgeForwardDelay, nl.Uint32Attr(uint32(b.Delay/(10*time.Millisecond)))) // USER_HZ
	}
	request.AddData(info)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set its spanning tree protocol: %w", err)
	}
	return nil
}

// CanJoin tells whether a part of c is there that has not been put into it.
func CanJoin(s *State, c Config) bool {
	i, err := s.Find(Match{Name: c.Name})
	return err == nil && slices.ContainsFunc(c.Make.parts(), func(m Match) bool {
		p, err := s.Find(m)
		return err == nil && p.Master == 0 && p.Index != i.Index
	})
}

// Join puts the parts into c that have come since it was made.
func Join(c Config) error { return c.join() }
