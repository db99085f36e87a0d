package appliance

import (
	"encoding/hex"
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
	if t.Pin == "" {
		return
	}
	b, err := hex.DecodeString(strings.TrimPrefix(t.Pin, "sha256:"))
	if err != nil || len(b) != 32 || !strings.HasPrefix(t.Pin, "sha256:") {
		c.fail(at+".pin", "write sha256: and 64 hexadecimal digits over the server's public key", "%s: this is no pin", at)
	}
}

func (k *KeySource) check(c *checks, at string) {
	if k.File != "" {
		c.absolute(at+".file", k.File)
	}
	if k.KMIP == nil {
		return
	}
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
	if l.Key.Ephemeral && l.Header != "" {
		c.fail(at+".header", "leave it out", "a volume with an ephemeral key has no header")
	}
}
