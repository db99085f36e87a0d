package appliance

import (
	"encoding/hex"
	"path"
	"strings"
)

// DefaultGroup is the group of key servers that name none.
const DefaultGroup = "default"

// Groups returns the names of all groups of key servers.
func (k *Keys) Groups() []string {
	var list []string
	seen := map[string]bool{}
	for _, s := range k.Servers {
		if g := s.GroupName(); !seen[g] {
			seen[g] = true
			list = append(list, g)
		}
	}
	return list
}

// GroupName returns the group that s belongs to.
func (s KeyServer) GroupName() string {
	if s.Group == "" {
		return DefaultGroup
	}
	return s.Group
}

func (s *KeyServer) check(c *checks, at string) {
	c.name(at+".name", s.Name)
	c.hostPort(at+".address", s.Address)
}

func (t *TLS) check(c *checks, at string) {
	for _, file := range []struct{ key, path string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}} {
		c.path(at+"."+file.key, file.path)
	}
	if t.Pin == "" {
		return
	}
	b, err := hex.DecodeString(strings.TrimPrefix(t.Pin, "sha256:"))
	if err != nil || len(b) != 32 || !strings.HasPrefix(t.Pin, "sha256:") {
		c.fail(at+".pin", "write sha256: and 64 hexadecimal digits over the server's public key", "%s: this is no pin", at)
	}
}

// path refuses what stands where the path of a file belongs and is the content of one.
func (c *checks) path(at, s string) {
	if isPEM(s) {
		c.fail(at, "put it into a file, and write the file's path", "%s: this is not the path of a file but what belongs into it, and no secret may stand here", at)
	}
}

func isPEM(s string) bool { return strings.ContainsAny(s, "\n\r") || strings.Contains(s, "-----BEGIN") }

func (k *KeySource) check(c *checks, at string) {
	c.path(at+".file", k.File)
	if k.File != "" && !path.IsAbs(k.File) && !isPEM(k.File) {
		c.fail(at+".file", "write an absolute path, such as /run/initd/state/keys/NAME", "%s.file: the path is relative", at)
	}
	if k.KMIP == nil {
		return
	}
	k.KMIP.check(c, at+".kmip")
	group := k.KMIP.Servers
	if group == "" {
		group = DefaultGroup
	}
	if c.a.Keys == nil || len(c.a.Keys.Servers) == 0 {
		c.fail(at, "add keys: {servers: […]}", "the key comes by KMIP, but the file names no key server")
		return
	}
	for _, g := range c.a.Keys.Groups() {
		if g == group {
			return
		}
	}
	c.fail(at, Suggest(group, c.a.Keys.Groups()), "no key server is in the group %q", group)
}

func (k *KMIPKey) check(c *checks, at string) {
	if k.ID != "" && (k.Name != "" || k.ObjectGroup != "" || len(k.Attributes) > 0) {
		c.fail(at, "give the id alone", "an id says it all: name, group and attributes cannot stand beside it")
	}
	for a := range k.Attributes {
		if !strings.HasPrefix(a, "x-") && !strings.HasPrefix(a, "y-") {
			c.fail(at+".attributes."+a, "custom attributes begin with x- (client) or y- (server)", "%q is no custom attribute", a)
		}
	}
}

func (l *LUKS) check(c *checks, at string) {
	c.name(at+".name", l.Name)
	if l.Name == "control" { // dm-ioctl.h, DM_CONTROL_NODE
		c.fail(at+".name", "choose another name", "/dev/mapper/control belongs to the kernel")
	}
	if l.Key.Ephemeral && l.Header != "" {
		c.fail(at+".header", "leave it out", "a volume with an ephemeral key has no header")
	} else if l.Header != "" && l.Header == l.Device {
		c.fail(at+".header", "leave it out, unless the header lies elsewhere", "%s cannot hold both the data and a header that is detached from it", l.Header)
	}
	if l.Key.Ephemeral && l.ReadOnly {
		c.fail(at+".read-only", "leave it out", "a volume with an ephemeral key is empty, and read-only nothing can get into it")
	}
}
