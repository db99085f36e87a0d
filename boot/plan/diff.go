package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Change is one difference between two plans.
type Change struct {
	Unit string   `json:"unit"`
	What string   `json:"what"` // added, removed, changed
	How  []string `json:"how,omitempty"`
}

// Diff tells what new has that old has not, by unit, in the order of new and
// then of what is gone.
func Diff(old, new *Plan) []Change {
	var list []Change
	for i := range new.Units {
		u := &new.Units[i]
		o := old.Unit(u.ID)
		if o == nil {
			list = append(list, Change{Unit: u.ID, What: "added"})
			continue
		}
		if how := unitDiff(o, u); len(how) > 0 {
			list = append(list, Change{Unit: u.ID, What: "changed", How: how})
		}
	}
	for i := range old.Units {
		if id := old.Units[i].ID; new.Unit(id) == nil {
			list = append(list, Change{Unit: id, What: "removed"})
		}
	}
	return list
}

func unitDiff(o, n *Unit) []string {
	var how []string
	if o.Digest != n.Digest {
		if how = specDiff(o.Spec, n.Spec); len(how) == 0 {
			how = []string{"another object of that name"}
		}
	}
	if o.Policy != n.Policy {
		how = append(how, fmt.Sprintf("policy: %s -> %s", o.Policy, n.Policy))
	}
	before, after := needTexts(o), needTexts(n)
	for _, s := range after {
		if !slices.Contains(before, s) {
			how = append(how, "+ "+s)
		}
	}
	for _, s := range before {
		if !slices.Contains(after, s) {
			how = append(how, "- "+s)
		}
	}
	return how
}

// specDiff tells which values of a spec differ, by their path in it.
func specDiff(o, n json.RawMessage) []string {
	before, after := map[string]string{}, map[string]string{}
	flatten(before, "", o)
	flatten(after, "", n)
	paths := slices.Sorted(maps.Keys(before))
	for p := range after {
		if _, ok := before[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	var how []string
	for _, p := range paths {
		b, had := before[p]
		a, has := after[p]
		switch {
		case !had:
			how = append(how, fmt.Sprintf("%s: %s, new", p, a))
		case !has:
			how = append(how, fmt.Sprintf("%s: %s, gone", p, b))
		case a != b:
			how = append(how, fmt.Sprintf("%s: %s -> %s", p, b, a))
		}
	}
	return how
}

// flatten puts the scalars of a JSON text into m.
func flatten(m map[string]string, path string, raw json.RawMessage) {
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(raw, &object) == nil && object != nil:
		for k, v := range object {
			flatten(m, strings.TrimPrefix(path+"."+k, "."), v)
		}
	case json.Unmarshal(raw, &list) == nil && list != nil:
		for i, v := range list {
			flatten(m, fmt.Sprintf("%s[%d]", path, i), v)
		}
	case len(raw) > 0:
		m[path] = string(raw)
	}
}

func needTexts(u *Unit) []string {
	var list []string
	for _, n := range u.Needs {
		list = append(list, n.String())
	}
	return list
}

// String tells the parts of a policy that people set.
func (p Policy) String() string {
	s := fmt.Sprintf("%s within %s", p.OnFailure, p.Deadline)
	if p.OnFailure == Reboot {
		s = fmt.Sprintf("reboot(%d) within %s", p.Reboots, p.Deadline)
	}
	if p.Wait != 0 {
		s += fmt.Sprintf(", waits %s", p.Wait)
	}
	return s
}

// WriteDiff writes changes for people; nothing when there is none.
func WriteDiff(w io.Writer, list []Change) error {
	b := &strings.Builder{}
	sign := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, c := range list {
		fmt.Fprintf(b, "%s %s\n", sign[c.What], c.Unit)
		for _, h := range c.How {
			fmt.Fprintf(b, "    %s\n", h)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
