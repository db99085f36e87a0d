package appliance

import (
	"slices"
	"strings"
)

// Sysctl maps kernel parameters to their values: vm.swappiness: "10".
type Sysctl map[string]string

var sysctlKey = lazily(`^[a-z][a-z0-9_]*([./][A-Za-z0-9_.:-]+)+$`)

// Keys returns the parameters in order.
func (s Sysctl) Keys() []string {
	var list []string
	for k := range s {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func (s *Sysctl) check(c *checks, at string) {
	same := map[string]string{} // sysctl(8) takes dots and slashes
	for _, k := range s.Keys() {
		if first, twice := same[strings.ReplaceAll(k, "/", ".")]; twice {
			c.fail(at+"."+k, "remove one of them", "%q and %q are the same parameter", first, k)
		}
		same[strings.ReplaceAll(k, "/", ".")] = k
		if !sysctlKey().MatchString(k) {
			c.fail(at+"."+k, "write it as sysctl(8) does, such as vm.swappiness", "%q is no name of a kernel parameter", k)
		}
	}
}
