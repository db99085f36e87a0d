package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxISCSIName is the bound of RFC 7143, 4.2.7.1, in bytes.
const maxISCSIName = 223

func (i *ISCSI) check(c *checks, at string) {
	c.name(at+".name", i.Name)
	c.iscsiName(at+".target", i.Target)
	c.iscsiName(at+".initiator", i.Initiator)
	c.oneOf(at+".active", i.Active, ActiveHere, ActiveCluster)
	if i.Portals != nil && len(i.Portals) == 0 {
		c.fail(at+".portals", "write [192.0.2.50]", "%s: nothing says where it is", i.Name)
	}
	i.checkPortals(c, at)
	luns, names := map[int]int{}, map[string]int{}
	for j, l := range i.LUNs {
		here := fmt.Sprintf("%s.luns[%d]", at, j)
		c.name(here+".name", l.Name)
		if l.LUN < 0 || l.LUN > 16383 {
			c.fail(here+".lun", "from 0 to 16383", "%d is no LUN", l.LUN)
		}
		if k, ok := luns[l.LUN]; ok {
			c.fail(here+".lun", "remove one of them", "LUN %d stands twice: in %s.luns[%d] and here", l.LUN, at, k)
		} else if k, ok := names[l.NameOr()]; ok && (l.Name == "" || i.LUNs[k].Name == "") {
			c.fail(here+".lun", "give it another name", "LUN %d would be called as %s.luns[%d] is", l.LUN, at, k)
		}
		luns[l.LUN], names[l.NameOr()] = j, j
	}
	if i.MinPaths < 0 || len(i.Portals) > 0 && i.MinPaths > len(i.Portals) {
		c.fail(at+".min-paths", fmt.Sprintf("from 1 to %d", len(i.Portals)), "%d portals cannot be logged in to, of %d", i.MinPaths, len(i.Portals))
	}
	i.checkRoot(c, at)
}

func (i *ISCSI) checkPortals(c *checks, at string) {
	seen := map[string]int{}
	for j, p := range i.Portals {
		here := fmt.Sprintf("%s.portals[%d]", at, j)
		host, port, err := p.HostPort()
		if err != nil {
			c.fail(here, "write 192.0.2.50, 192.0.2.50:3260 or [2001:db8::50]:3260", "%v", err)
			continue
		}
		if host == "" {
			c.fail(here, "write 192.0.2.50 or [2001:db8::50]:3260", "a portal without an address")
		}
		c.host(here, host)
		to, _ := netip.ParseAddr(host)
		p.checkHost(c, here, to, host)
		key := net.JoinHostPort(host, strconv.Itoa(port))
		if k, ok := seen[key]; ok {
			hint := "remove one of them"
			if o := i.Portals[k]; o.HostInterface != p.HostInterface || o.HostAddress != p.HostAddress {
				hint = "a portal has one session: make a bond of the interfaces, or name another portal of the target"
			}
			c.fail(here, hint, "%s stands twice: in %s.portals[%d] and here", p.Address, at, k)
		}
		seen[key] = j
	}
}

// checkRoot refuses what would let a root disk fail: whoever is on it dies with it.
func (i *ISCSI) checkRoot(c *checks, at string) {
	l := i.Options.RecoveryTimeout
	if len(i.Portals) > 1 || !l.Given || l.Never {
		return // with several, I/O waits above them
	}
	for _, m := range c.a.Mounts {
		if m.Where == "/" && c.a.base(m.What) == "iscsi/"+i.Name {
			c.fail(at+".options.recovery-timeout", "leave it out, or write never", "the root is on %s: when its disk fails, so does everything, while waiting can be waited out", i.Name)
		}
	}
}

func (c *checks) iscsiName(at, s string) {
	switch {
	case s == "":
	case !strings.HasPrefix(s, "iqn.") && !strings.HasPrefix(s, "eui.") && !strings.HasPrefix(s, "naa."):
		c.fail(at, "it begins with iqn.YEAR-MONTH. and a domain name turned round: iqn.2026-01.net.example:disks", "%q is no iSCSI name", s)
	case len(s) > maxISCSIName:
		c.fail(at, fmt.Sprintf("at most %d bytes", maxISCSIName), "this iSCSI name has %d bytes", len(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ',' || r == '=' || r == 0x7f }):
		c.fail(at, "leave out blanks, commas and =", "%q is no iSCSI name", s)
	case strings.HasPrefix(s, "iqn.") && strings.ToLower(s) != s:
		c.fail(at, fmt.Sprintf("write %q", strings.ToLower(s)), "%q has capital letters, and targets compare names as they are", s)
	}
}

func (h *ISCSICHAP) check(c *checks, at string) {
	for key, k := range map[string]KeySource{".secret": h.Secret, ".mutual": h.Mutual} {
		if k.Ephemeral || k.Prompt != "" {
			c.fail(at+key, "write kmip, {kmip: {name: …}} or {file: PATH}", "a secret that two sides share is neither made up nor asked for at each boot")
		}
	}
	if h.MutualUser != "" && !h.Mutual.Given() {
		c.fail(at+".mutual-user", "add mutual: kmip, or another source", "a name that the target has to give, and no secret by which it proves it")
	}
	known := []string{"sha256", "sha3-256", "sha1", "md5"}
	for i, a := range h.Algorithms {
		here := fmt.Sprintf("%s.algorithms[%d]", at, i)
		c.oneOf(here, a, known...)
		if slices.Contains(h.Algorithms[:i], a) {
			c.fail(here, "remove one of them", "%s stands twice", a)
		}
	}
}

func (o *ISCSIOptions) check(c *checks, at string) {
	for key, v := range map[string]string{"header-digest": o.HeaderDigest, "data-digest": o.DataDigest} {
		c.oneOf(at+"."+key, strings.ToLower(v), "none", "crc32c", "crc32c,none", "none,crc32c")
	}
	within := func(key string, v, low, high int) {
		if v != 0 && (v < low || v > high) {
			c.fail(at+"."+key, fmt.Sprintf("from %d to %d", low, high), "%s %d is out of range", key, v)
		}
	}
	const most = 1<<24 - 1
	within("max-recv", o.MaxRecv, 512, most)
	within("max-xmit", o.MaxXmit, 512, most)
	within("max-burst", o.MaxBurst, 512, most)
	within("first-burst", o.FirstBurst, 512, most)
	within("max-r2t", o.MaxR2T, 1, 65536)
	within("commands", o.Commands, 16, 4096)
	within("queue-depth", o.QueueDepth, 1, 1024)
	for key, v := range map[string]int{"max-r2t": o.MaxR2T, "commands": o.Commands} {
		if v > 0 && v&(v-1) != 0 {
			c.fail(at+"."+key, "such as 16, 64 or 128", "%s %d is no power of 2", key, v)
		}
	}
	burst := o.MaxBurst
	if burst == 0 {
		burst = 262144
	}
	if o.FirstBurst > burst {
		c.fail(at+".first-burst", "at most max-burst", "a first burst of %d bytes is more than all of a burst, %d", o.FirstBurst, burst)
	}
	seconds := func(key string, d Duration) {
		if v := time.Duration(d); v != 0 && (v < time.Second || v > time.Hour || v%time.Second != 0) {
			c.fail(at+"."+key, "whole seconds, from 1s to 1h", "%s %s is nothing that the kernel takes", key, v)
		}
	}
	seconds("time2wait", o.Time2Wait)
	seconds("nop-interval", o.NopInterval)
	seconds("nop-timeout", o.NopTimeout)
	seconds("recovery-timeout", o.RecoveryTimeout.After)
	seconds("abort-timeout", o.AbortTimeout)
	seconds("lun-reset-timeout", o.LUNResetTimeout)
	seconds("target-reset-timeout", o.TargetResetTimeout)
	seconds("login-timeout", o.LoginTimeout)
}
