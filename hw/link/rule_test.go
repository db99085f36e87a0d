package link

import (
	"net/netip"
	"testing"
)

func TestRules(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		name string
		c    RuleConfig
	}{
		{"from a network", RuleConfig{From: p("192.0.2.0/24"), Table: 100, Priority: 100}},
		{"to an address of IPv6", RuleConfig{To: p("2001:db8::17/128"), Table: 101, Priority: 101}},
		{"from everywhere", RuleConfig{From: p("0.0.0.0/0"), Table: 102, Priority: 102}},
		{"from everywhere, of IPv6", RuleConfig{From: p("::/0"), To: p("2001:db8::/32"), Table: 102, Priority: 102}},
		{"marked packets", RuleConfig{Mark: 7, Table: 70000, Priority: 103, IPv4: true}},
		{"what came in by a link", RuleConfig{Link: "lo", Table: 104, Priority: 104}},
		{"one more with the same priority", RuleConfig{From: p("198.51.100.0/24"), Table: 100, Priority: 100}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, why, err := CheckRule(tt.c); err != nil || got == Same {
				t.Errorf("before: got %s (%s), %v", got, why, err)
			}
			for range 2 { // a second time nothing happens
				if err := AddRule(tt.c); err != nil {
					t.Fatal(err)
				}
				if got, why, err := CheckRule(tt.c); err != nil || got != Same {
					t.Errorf("after: got %s (%s), %v", got, why, err)
				}
			}
		})
	}
	if got, why, err := CheckRule(RuleConfig{From: p("203.0.113.0/24"), Table: 100, Priority: 100}); err != nil || got != Different {
		t.Errorf("another one has the priority: got %s (%s), %v", got, why, err)
	}
}
