package appliance

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// FactNames lists what may stand between ${ and }. machine.* and unit.* are
// expanded when the plan is compiled, drive.* when an instance is there.
func FactNames() []string {
	return []string{
		"machine.name", "machine.serial", "machine.uuid", "machine.vendor", "machine.product",
		"unit.name", "unit.kind",
		"drive.serial", "drive.model", "drive.wwn",
	}
}

var factPattern = lazily(`\$\{([^}]*)\}`)
var bareFact = lazily(`(^|[^$])\{\s*((machine|unit|drive)\.[a-z-]*)\s*\}`)

// Expand replaces each ${fact} by value(fact); facts for which ok is false stay.
func Expand(s string, value func(fact string) (string, bool)) string {
	return factPattern().ReplaceAllStringFunc(s, func(m string) string {
		if v, ok := value(m[2 : len(m)-1]); ok {
			return v
		}
		return m
	})
}

func (d *decoder) checkFacts(n *yaml.Node, path, s string) {
	for _, m := range factPattern().FindAllStringSubmatch(s, -1) {
		known := false
		for _, f := range FactNames() {
			known = known || f == m[1]
		}
		if !known {
			hint := Suggest(m[1], FactNames())
			if hint == "" {
				hint = "known facts: " + strings.Join(FactNames(), ", ")
			}
			what := " ${" + m[1] + "}"
			if d.private > 0 {
				what = ""
			}
			d.fail(n, path, hint, "%s: unknown fact%s", name(path), what)
		}
	}
	if m := bareFact().FindStringSubmatch(s); m != nil {
		d.fail(n, path, fmt.Sprintf("write ${%s}", m[2]), "%s: {%s} is not a fact", name(path), m[2])
	}
}

// bareFactHint helps who wrote {machine.name} without a dollar: YAML reads a
// mapping there.
func (d *decoder) bareFactHint(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		for _, f := range FactNames() {
			if n.Content[0].Value == f {
				return fmt.Sprintf("a fact is written \"${%s}\", with a dollar and in quotes", f)
			}
		}
	}
	return ""
}

// lazily compiles a pattern at its first use: every child is this program, and would pay for all of them at its start.
func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
