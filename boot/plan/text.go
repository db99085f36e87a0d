package plan

import (
	"fmt"
	"io"
	"strings"
)

// Text writes the plan by stage, one unit a line and its needs below it.
func (p *Plan) Text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s: %d units, boot within %s, shutdown within %s\n", p.Name, len(p.Units), p.Budget, p.Shutdown)
	for _, n := range p.Notes {
		fmt.Fprintf(b, "  %s\n", n)
	}
	var stage Stage
	for i := range p.Units {
		u := &p.Units[i]
		if u.Stage != stage {
			stage = u.Stage
			fmt.Fprintf(b, "\n%s\n", stage)
		}
		note := ""
		if u.Policy.OnFailure != Degrade {
			note = "  on failure: " + string(u.Policy.OnFailure)
			if u.Policy.OnFailure == Reboot {
				note += fmt.Sprintf("(%d)", u.Policy.Reboots)
			}
		}
		if u.Origin != "" && !strings.Contains(u.Origin, ":") {
			note += "  from " + u.Origin
		}
		fmt.Fprintf(b, "  %s%s\n", u.ID, note)
		if u.ID == ReadyID {
			fmt.Fprintf(b, "      after everything above\n")
			continue
		}
		for _, n := range u.Needs {
			fmt.Fprintf(b, "      %s\n", n)
		}
	}
	for _, t := range p.Templates {
		fmt.Fprintf(b, "\n%s (%s): a unit for each %s that matches; %d expected\n", t.ID, t.Stage, t.Class, t.Expect.Count)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String reads as a sentence: "needs key/a", "after time", "needs 1 of endpoint/a, endpoint/b".
func (n Need) String() string {
	verb := "needs"
	if n.Mode == After {
		verb = "after"
	}
	names := make([]string, len(n.AnyOf))
	for i, r := range n.AnyOf {
		names[i] = string(r)
	}
	if len(names) > 1 {
		return fmt.Sprintf("%s %d of %s", verb, max(n.Min, 1), strings.Join(names, ", "))
	}
	return verb + " " + strings.Join(names, "")
}

// DOT writes the graph in Graphviz's language, a cluster a stage.
func (p *Plan) DOT(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "digraph %q {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n", p.Name)
	provider := p.providers()
	for _, s := range Stages() {
		open := false
		for i := range p.Units {
			if u := &p.Units[i]; u.Stage == s {
				if !open {
					fmt.Fprintf(b, "  subgraph %q {\n    label=%q;\n", "cluster_"+string(s), string(s))
					open = true
				}
				fmt.Fprintf(b, "    %q;\n", u.ID)
			}
		}
		if open {
			b.WriteString("  }\n")
		}
	}
	for i := range p.Units {
		u := &p.Units[i]
		for _, n := range u.Needs {
			style := ""
			if n.Mode == After {
				style = " [style=dashed]"
			}
			for _, r := range n.AnyOf {
				from := string(r)
				if pr := provider[r]; pr != nil {
					from = pr.ID
				}
				fmt.Fprintf(b, "  %q -> %q%s;\n", from, u.ID, style)
			}
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Plan) providers() map[Resource]*Unit {
	m := map[Resource]*Unit{}
	for i := range p.Units {
		for _, r := range p.Units[i].Provides {
			m[r] = &p.Units[i]
		}
	}
	return m
}
