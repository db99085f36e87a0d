package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// checker is a type that knows more about its own correctness than the shape
// of its fields says.
type checker interface{ check(c *checks, at string) }

// checks collects what the checkers find.
type checks struct {
	a       *Appliance
	p       *Problems
	mounted map[string]Pos // by where
}

// given tells whether the file says something at that path.
func (c *checks) given(at string) bool {
	_, is := c.a.positions[at]
	return is
}

func (c *checks) fail(at, hint, format string, args ...any) {
	c.p.Add(c.a.At(at), at, hint, format, args...)
}

// validate calls every checker in the tree and refuses names given twice.
func (a *Appliance) validate(p *Problems) {
	c := &checks{a: a, p: p, mounted: map[string]Pos{}}
	c.walk(reflect.ValueOf(a).Elem(), "")
}

func (c *checks) walk(v reflect.Value, at string) {
	if v.CanAddr() && v.Addr().CanInterface() {
		if k, ok := v.Addr().Interface().(checker); ok {
			k.check(c, at)
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.walk(v.Elem(), at)
		}
	case reflect.Struct:
		for _, f := range structFields(v.Type()) {
			c.walk(v.FieldByIndex(f.index), join(at, f.key))
		}
	case reflect.Slice:
		first := map[string]string{}
		for i := range v.Len() {
			e, here := v.Index(i), fmt.Sprintf("%s[%d]", at, i)
			c.walk(e, here)
			if e.Kind() != reflect.Struct {
				continue
			}
			n := e.FieldByName("Name")
			if !n.IsValid() || n.Kind() != reflect.String || n.String() == "" {
				continue
			}
			if old, ok := first[n.String()]; ok {
				c.a.taken[here] = true
				c.fail(here+".name", "rename one of them", "%s: the name %q is taken by the entry in %s", at, n, c.a.At(old))
			}
			first[n.String()] = here
		}
	}
}

var unitName = lazily(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$`)

func (c *checks) name(at, s string) {
	if s != "" && !unitName().MatchString(s) {
		c.fail(at, "use letters, digits, dot, underscore, plus and dash; at most 63", "%q cannot be a name", s)
	}
}

func (c *checks) oneOf(at, s string, known ...string) {
	if s == "" || slices.Contains(known, s) {
		return
	}
	hint := Suggest(s, known)
	if hint == "" {
		hint = "write one of: " + strings.Join(known, ", ")
	}
	c.fail(at, hint, "%s: %q is not known", at, s)
}

func (c *checks) absolute(at, s string) {
	switch {
	case s == "":
	case strings.ContainsFunc(s, unicode.IsControl):
		c.fail(at, "leave it out", "%s: there is a control character in the path %q", at, s)
	case !path.IsAbs(s):
		c.fail(at, fmt.Sprintf("write %q", path.Clean("/"+s)), "%s: %q is a relative path", at, s)
	case path.Clean(s) != s:
		c.fail(at, fmt.Sprintf("write %q", path.Clean(s)), "%s: %q is not in its shortest form", at, s)
	}
}

func (c *checks) hostPort(at, s string) {
	if s == "" {
		return
	}
	host, port, err := net.SplitHostPort(s)
	hint := "write HOST:PORT, with an IPv6 address in brackets: [2001:db8::1]:5696"
	if err != nil || host == "" {
		c.fail(at, hint, "%s: %q is no address with a port", at, withoutUser(s))
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		c.fail(at, "ports go from 1 to 65535", "%s: %q is no port", at, withoutUser(port))
	}
	c.host(at, host)
}

var hostName = lazily(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)
var allNumeric = lazily(`^[0-9.]+$`)

// withoutUser leaves USER:PASSWORD@ out of what somebody wrote as an address.
func withoutUser(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

func (c *checks) host(at, s string) {
	if _, err := netip.ParseAddr(s); err == nil || s == "" {
		return
	}
	if allNumeric().MatchString(s) {
		c.fail(at, "an IPv4 address has four numbers from 0 to 255", "%s: %q is no address", at, s)
	} else if !hostName().MatchString(s) || len(s) > 253 {
		c.fail(at, "", "%s: %q is neither an address nor a host name", at, withoutUser(s))
	}
}

func (c *checks) address(at, s string) {
	if _, err := netip.ParseAddr(s); err != nil && s != "" {
		c.fail(at, "write an IPv4 or IPv6 address", "%s: %q is no address", at, s)
	}
}

func (a *Appliance) check(c *checks, at string) {
	c.name("name", a.Name)
	c.oneOf("firmware", a.Firmware, FirmwareAuto, FirmwareUse, FirmwareIgnore)
	if a.Budgets.Boot != 0 && a.Budgets.Boot.Or(0).Seconds() < 1 {
		c.fail("budgets.boot", "write at least 1s", "budgets.boot: too short for a boot")
	}
	if a.Budgets.Shutdown != 0 && a.Budgets.Shutdown.Or(0).Seconds() < 1 {
		c.fail("budgets.shutdown", "write at least 1s", "budgets.shutdown: too short for a shutdown")
	}
}
