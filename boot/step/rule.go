package step

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/link"
)

// ruleSpec is the Spec of a unit of kind rule.
type ruleSpec struct {
	From     netip.Prefix        `json:"from,omitzero"`
	To       netip.Prefix        `json:"to,omitzero"`
	Link     string              `json:"link,omitempty"`
	Match    appliance.LinkMatch `json:"match,omitzero"`
	Mark     int                 `json:"mark,omitempty"`
	Table    int                 `json:"table"`
	Priority int                 `json:"priority"`
}

func ruleStep() Step {
	return Step{
		Kind: plan.Kind{Name: "rule", Expand: expandRules},
		New:  func(*Deps) engine.Action { return ruleAction{} },
	}
}

// expandRules: a rule needs nothing but the link that it names. One of a link
// or mark alone is for both families.
func expandRules(x *plan.Expansion) {
	n := x.Appliance.Network
	if n == nil {
		return
	}
	for i, r := range n.Rules {
		s := ruleSpec{Link: r.Link, Match: matchOfLink(n, r.Link), Mark: r.Mark, Table: r.Table, Priority: r.Priority}
		s.From, _ = netip.ParsePrefix(r.From) // loading has reported what is none
		s.To, _ = netip.ParsePrefix(r.To)
		u := plan.Unit{
			ID:     fmt.Sprintf("rule/%d", r.Priority),
			Stage:  plan.Network,
			Policy: x.Policy(appliance.Policy{}, plan.Policy{Deadline: plan.Duration(5 * time.Second), Wait: plan.Duration(20 * time.Second)}),
		}
		u.Provides = []plan.Resource{plan.Resource("net/" + u.ID)}
		for _, l := range n.Links {
			if l.Name == r.Link {
				u.Needs = useOf(l)
			}
		}
		x.Add(fmt.Sprintf("network.rules[%d]", i), u, s)
	}
}

// configs are what hw/link is asked for: one, or one of each family.
func (s ruleSpec) configs() ([]link.RuleConfig, error) {
	c := link.RuleConfig{From: s.From, To: s.To, Mark: s.Mark, Table: s.Table, Priority: s.Priority}
	if s.Link != "" {
		st, err := link.Read()
		if err != nil {
			return nil, err
		}
		if c.Link, err = kernelName(st, s.Link, s.Match); err != nil {
			return nil, err
		}
	}
	if s.From.IsValid() || s.To.IsValid() {
		return []link.RuleConfig{c}, nil
	}
	four := c
	four.IPv4 = true
	return []link.RuleConfig{four, c}, nil
}

// ruleAction adds policy rules.
type ruleAction struct{}

func (ruleAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[ruleSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	list, err := s.configs()
	if err != nil {
		return engine.Checked{}, err
	}
	result := engine.Checked{Answer: engine.Same, Object: fmt.Sprintf("table %d", s.Table)}
	for _, c := range list {
		answer, reason, err := link.CheckRule(c)
		if err != nil {
			return engine.Checked{}, err
		}
		if answer != link.Same {
			result.Answer, result.Reason = engine.Answer(answer), reason
		}
	}
	return result, nil
}

func (ruleAction) Apply(_ context.Context, u *plan.Unit, _ func(engine.Progress)) error {
	s, err := spec[ruleSpec](u)
	if err != nil {
		return err
	}
	list, err := s.configs()
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := link.AddRule(c); err != nil {
			return err
		}
	}
	return nil
}

func (ruleAction) Rollback(context.Context, *plan.Unit) error { return nil }
