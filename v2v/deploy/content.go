package deploy

import (
	"fmt"
	"strings"

	"initd/hw/block/media"
)

// Describe says in words what is on a medium; empty if nothing that is known.
func Describe(c media.Content) string {
	var parts []string
	if t := c.Table; t != nil {
		s := fmt.Sprintf("a %s partition table", t.Type)
		if n := len(t.Partitions); n == 1 {
			s += " with 1 partition"
		} else if n > 1 {
			s += fmt.Sprintf(" with %d partitions", n)
		}
		parts = append(parts, s)
	}
	if g := c.Signature; g != nil {
		s := g.Type
		if g.Label != "" {
			s += fmt.Sprintf(" %q", g.Label)
		}
		parts = append(parts, s)
	}
	if len(c.Ambivalent) > 0 {
		parts = append(parts, "several signatures: "+strings.Join(c.Ambivalent, ", "))
	}
	return strings.Join(parts, " and ")
}
