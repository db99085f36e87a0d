package appliance

import (
	"fmt"
	"path"
	"strings"
)

// FileSystems lists the types that a mount can have.
func FileSystems() []string { return []string{"ext4", "xfs", "tmpfs", "bind"} }

func (m *Mount) check(c *checks, at string) {
	c.absolute(at+".where", m.Where)
	if m.Where != "" {
		m.Where = path.Join("/", m.Where) // as the hint says
	}
	c.oneOf(at+".type", m.Type, FileSystems()...)
	c.oneOf(at+".fsck", m.FSCK, "auto", "never")
	switch {
	case m.Type == "tmpfs" && m.What != "" && m.What != "tmpfs":
		c.fail(at+".what", "leave it out", "a tmpfs has no device")
	case m.Type == "bind" && !path.IsAbs(m.What):
		c.fail(at+".what", "write the absolute path of the folder", "a bind mount starts from a path, not from %q", m.What)
	case (m.Type == "ext4" || m.Type == "xfs") && m.What == "":
		c.fail(at, "add what: luks/…, uuid/… or another device", "the mount %s has nothing to mount", m.Where)
	}
	if m.Where == "/" {
		m.checkRoot(c, at)
	}
	for _, reserved := range []string{"/proc", "/sys", "/dev", "/run"} {
		if m.Where == reserved {
			c.fail(at+".where", "choose another, such as /srv/data", "%s belongs to the system itself", m.Where)
		}
	}
	if o, taken := c.mounted[m.Where]; taken {
		c.a.taken[at] = true
		c.fail(at+".where", "choose another", "%s is taken by the mount in %s", m.Where, o)
	} else if m.Where != "" {
		c.mounted[m.Where] = m.Pos
	}
}

// checkRoot: a root is what the machine is handed over to, with an init of its
// own in it.
func (m *Mount) checkRoot(c *checks, at string) {
	if m.Type == "tmpfs" || m.Type == "bind" {
		c.fail(at+".type", "write ext4 or xfs", "a root holds another system, and no %s does", m.Type)
	}
	for i := range c.a.Services {
		s := &c.a.Services[i]
		c.fail(fmt.Sprintf("services[%d]", i), "leave it out here, and enable its systemd unit in that root",
			"service %s: services belong to the init of the root, which %s mounts at /", s.Name, m.Pos)
	}
	if c.a.Jobs != nil {
		c.fail("jobs", "leave it out here, and enable a systemd unit for v2v worker in that root", "jobs: services belong to the init of the root, which %s mounts at /", m.Pos)
	}
}

var signalName = lazily(`^(SIG)?[A-Z][A-Z0-9]{1,6}$`)

func (s *Service) check(c *checks, at string) {
	c.name(at+".name", s.Name)
	c.oneOf(at+".restart", s.Restart, "on-failure", "always", "never")
	if len(s.Command) > 0 && !path.IsAbs(s.Command[0]) {
		c.fail(at+".command", "write its absolute path: nothing searches a PATH at boot", "service %s: the program %q is no absolute path", s.Name, s.Command[0])
	} else if len(s.Command) == 0 && c.a.At(at+".command") != c.a.At(at) {
		c.fail(at+".command", "", "service %s: the command is empty", s.Name)
	}
	if s.Stop.Signal != "" && !signalName().MatchString(s.Stop.Signal) {
		c.fail(at+".stop.signal", "write a name such as TERM or QUIT", "%q is no signal", s.Stop.Signal)
	}
	c.absolute(at+".directory", s.Directory)
	for k := range s.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			c.fail(at+".env", "", "%q cannot name a variable", k)
		}
	}
}

func (r *Ready) check(c *checks, at string) {
	n := 0
	for _, given := range []bool{len(r.Exec) > 0, r.TCP != "", r.Notify, r.File != ""} {
		if given {
			n++
		}
	}
	if n > 1 {
		c.fail(at, "choose exec, tcp, notify or file", "%s names %d ways to be ready, not one", at, n)
	}
	c.hostPort(at+".tcp", r.TCP)
	c.absolute(at+".file", r.File)
}

func (f *ImageFile) check(c *checks, at string) {
	c.absolute(at+".to", f.To)
	if f.From == "" && f.To != "" {
		c.fail(at, fmt.Sprintf("add from: the file that goes to %s", f.To), "nothing to copy")
	}
}
