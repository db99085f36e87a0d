package nvmeof

import (
	"fmt"

	"initd/hw/sysfs"
)

// Match tells whether a controller is the connection to t for host: the kernel would refuse another one (EALREADY;
// nvmf_ip_options_match). A controller on its way out is none.
func (c Controller) Match(t Target, host Host) bool {
	return c.Transport == "tcp" && !c.State.Ending() && c.NQN == t.NQN && c.Target.Addr == t.Addr &&
		(host.NQN == "" || c.Host.NQN == host.NQN) && c.from(t)
}

// from tells whether the connection comes from where t wants it to. Where either side does not say, only what both say counts.
func (c Controller) from(t Target) bool {
	switch {
	case t.HostIface != "" && c.HostIface != "" && t.HostIface != c.HostIface:
		return false
	case t.HostAddr.IsValid() && c.HostAddr.IsValid():
		return t.HostAddr.Unmap() == c.HostAddr.Unmap()
	case t.HostAddr.IsValid() && c.Source.IsValid():
		return t.HostAddr.Unmap() == c.Source.Unmap()
	}
	return true
}

// Adopt finds the controller that is the connection to t, if there is one.
func Adopt(f *sysfs.FS, t Target, host Host) (Controller, bool) {
	names, err := controllerNames(f)
	if err != nil {
		return Controller{}, false
	}
	for _, name := range names {
		dir := follow(f, "sys/class/nvme/"+name)
		if attribute(f, dir, "subsysnqn") != t.NQN {
			continue // most are of others
		}
		if c, err := readConnection(f, name, dir); err == nil && c.Match(t, host) {
			if c, err = ReadController(f, name); err == nil {
				return c, true
			}
		}
	}
	return Controller{}, false
}

// Find returns the subsystem of that name; discovery subsystems share theirs, so none is found by it.
func Find(f *sysfs.FS, nqn string) (Subsystem, bool) {
	names, err := f.Names("sys/class/nvme-subsystem")
	if err != nil || nqn == DiscoveryNQN {
		return Subsystem{}, false
	}
	for _, n := range names {
		if attribute(f, follow(f, "sys/class/nvme-subsystem/"+n), "subsysnqn") == nqn {
			return readSubsystem(f, n)
		}
	}
	return Subsystem{}, false
}

// Disk finds the disk of a namespace.
func Disk(f *sysfs.FS, nqn string, nsid int) (Namespace, error) {
	s, ok := Find(f, nqn)
	if !ok {
		return Namespace{}, fmt.Errorf("%s: it is not connected", nqn)
	}
	for _, n := range s.Namespaces {
		if n.NSID == nsid {
			return n, nil
		}
	}
	return Namespace{}, fmt.Errorf("%s: it has no namespace %d", nqn, nsid)
}

// Live counts the connections to a subsystem that carry I/O.
func (s Subsystem) Live() int {
	n := 0
	for _, c := range s.Controllers {
		if c.State == StateLive {
			n++
		}
	}
	return n
}
