package appliance

import (
	"fmt"
	"strings"
	"time"
)

// maxNQN is one byte less than the 223 of the specification (NVMe Base 2.0,
// section 4.5): the kernel keeps a NUL in them (NVMF_NQN_SIZE).
const maxNQN = 222

// discoveryNQN is the name that all discovery controllers share.
const discoveryNQN = "nqn.2014-08.org.nvmexpress.discovery"

var uuidText = lazily(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func (n *NVMe) check(c *checks, at string) {
	c.name(at+".name", n.Name)
	c.nqn(at+".subsystem", n.Subsystem)
	c.nqn(at+".host-nqn", n.HostNQN)
	c.oneOf(at+".active", n.Active, ActiveHere, ActiveCluster)
	if n.HostID != "" && !uuidText().MatchString(n.HostID) {
		c.fail(at+".host-id", "write it as 6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5", "%q is no UUID", n.HostID)
	}
	if (n.HostID == "") != (n.HostNQN == "") {
		c.fail(at, "give both or neither", "host-nqn and host-id belong together: the kernel takes one name for one id")
	}
	switch {
	case n.Subsystem == discoveryNQN:
		c.fail(at+".subsystem", "write discovery: [tcp://…], and the subsystem that is wanted, or none for all", "this is the name of discovery controllers")
	case len(n.Paths) > 0 && len(n.Discovery) > 0:
		c.fail(at+".discovery", "leave one of them out", "%s has paths and discovery: the paths come from either", n.Name)
	case len(n.Paths) > 0 && n.Subsystem == "":
		c.fail(at, "add subsystem: NQN, or write discovery in the place of paths", "%s has paths, but names no subsystem", n.Name)
	case len(n.Paths) == 0 && len(n.Discovery) == 0:
		c.fail(at, "add paths: [tcp://ADDRESS:4420] or discovery: [tcp://ADDRESS:8009]", "%s: nothing says where it is", n.Name)
	}
	n.checkPaths(c, at+".paths", n.Paths, NVMePort)
	n.checkPaths(c, at+".discovery", n.Discovery, NVMeDiscoveryPort)
	if n.MinPaths < 0 || len(n.Paths) > 0 && n.MinPaths > len(n.Paths) {
		c.fail(at+".min-paths", fmt.Sprintf("from 1 to %d", len(n.Paths)), "%d paths cannot be up, of %d", n.MinPaths, len(n.Paths))
	}
	n.checkRoot(c, at)
}

func (n *NVMe) checkPaths(c *checks, at string, list []NVMePath, port uint16) {
	seen := map[string]int{}
	for i, p := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		a, err := p.AddrPort(port)
		if err != nil {
			c.fail(here, "write tcp://192.0.2.40:4420 or tcp://[2001:db8::40]:4420", "%v", err)
			continue
		}
		p.checkHost(c, here, a.Addr(), a.String())
		key := a.String() + " " + p.HostAddress + " " + p.HostInterface
		if j, ok := seen[key]; ok {
			c.fail(here, "remove one of them", "%s stands twice: in %s[%d] and here", p.Address, at, j)
		}
		seen[key] = i
	}
}

// checkRoot refuses what would let a root disk fail: whoever is on it dies with it.
func (n *NVMe) checkRoot(c *checks, at string) {
	for _, m := range c.a.Mounts {
		if m.Where != "/" || c.a.base(m.What) != "nvme/"+n.Name {
			continue
		}
		for key, l := range map[string]Limit{"ctrl-loss": n.Options.CtrlLoss, "fast-io-fail": n.Options.FastIOFail} {
			if l.Given && !l.Never {
				c.fail(at+".options."+key, "leave it out, or write never", "the root is on %s: when its disk fails, so does everything, while waiting can be waited out", n.Name)
			}
		}
	}
}

func (c *checks) nqn(at, s string) {
	switch {
	case s == "":
	case !strings.HasPrefix(s, "nqn."):
		c.fail(at, "it begins with nqn.YEAR-MONTH. and a domain name turned round: nqn.2026-01.net.example:flash", "%q is no NQN", s)
	case len(s) > maxNQN:
		c.fail(at, fmt.Sprintf("at most %d bytes", maxNQN), "this NQN has %d bytes", len(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }):
		c.fail(at, "leave out blanks and commas", "%q is no NQN that the kernel can be told", s)
	}
}

func (d *NVMeDHCHAP) check(c *checks, at string) {
	for key, k := range map[string]KeySource{".secret": d.Secret, ".controller-secret": d.ControllerSecret} {
		if k.Ephemeral || k.Prompt != "" {
			c.fail(at+key, "write kmip, {kmip: {name: …}} or {file: PATH}", "a secret that two sides share is neither made up nor asked for at each boot")
		}
	}
}

func (o *NVMeOptions) check(c *checks, at string) {
	within := func(key string, v, low, high int) {
		if v != 0 && (v < low || v > high) {
			c.fail(at+"."+key, fmt.Sprintf("from %d to %d", low, high), "%s %d is out of range", key, v)
		}
	}
	within("queues", o.Queues, 1, 1024)
	within("queue-size", o.QueueSize, 16, 1024)
	seconds := func(key string, d Duration, low time.Duration) {
		if v := time.Duration(d); v != 0 && (v < low || v > 24*time.Hour || v%time.Second != 0) {
			c.fail(at+"."+key, fmt.Sprintf("whole seconds, from %s to 24h", low), "%s %s is nothing that the kernel takes", key, v)
		}
	}
	seconds("keep-alive", o.KeepAlive, time.Second)
	seconds("reconnect-delay", o.ReconnectDelay, time.Second)
	seconds("ctrl-loss", o.CtrlLoss.After, time.Second)
	seconds("fast-io-fail", o.FastIOFail.After, time.Second)
	c.oneOf(at+".io-policy", o.IOPolicy, "numa", "round-robin", "queue-depth")
	if o.CtrlLoss.Given && !o.CtrlLoss.Never && o.FastIOFail.Given && !o.FastIOFail.Never && o.FastIOFail.After > o.CtrlLoss.After {
		c.fail(at+".fast-io-fail", "at most ctrl-loss", "I/O cannot begin to fail after %s: the disk is gone after %s", o.FastIOFail.After, o.CtrlLoss.After)
	}
}
