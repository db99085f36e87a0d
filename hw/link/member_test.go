package link

import (
	"errors"
	"strings"
	"testing"
)

func TestMembersOfABond(t *testing.T) {
	bond := func(names ...string) Config {
		b := &BondConfig{}
		for _, n := range names {
			b.Members = append(b.Members, Match{Name: n})
		}
		return Config{Name: "pair", Make: Made{Bond: b}}
	}
	for _, tc := range []struct {
		name    string
		c       Config
		missing []string
	}{
		{"both are there", bond("eth0", "eth1"), nil},
		{"one is not in the machine", bond("eth0", "eth9"), []string{"eth9"}},
		{"none is", bond("eth8", "eth9"), []string{"eth8", "eth9"}},
		{"a bridge takes what comes", Config{Name: "lan", Make: Made{Bridge: &BridgeConfig{Ports: []Match{{Name: "eth9"}}}}}, nil},
	} {
		err := MissingMember(machine(), tc.c)
		var e *MemberError
		if errors.As(err, &e) != (tc.missing != nil) || e != nil && len(e.Missing) != len(tc.missing) {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for _, m := range tc.missing {
			if !strings.Contains(err.Error(), m) {
				t.Errorf("%s: %v does not name %s", tc.name, err, m)
			}
		}
	}
}

func TestWhatIsWrongWithAnMTU(t *testing.T) {
	for _, tc := range []struct {
		e     MTUError
		want  string
		again bool
	}{
		{MTUError{Link: "san", Interface: "eth1", MTU: 9000, Most: 1500}, "link san: set MTU 9000: eth1 can do 1500 at most", false},
		{MTUError{Link: "san", Interface: "san", MTU: 9000, Most: 1500, Below: "eth0"}, "link san: set MTU 9000: eth0 below it has 1500", true},
		{MTUError{Link: "san", Interface: "eth1", MTU: 60}, "link san: set MTU 60: eth1 cannot do that", false},
	} {
		if got := tc.e.Error(); got != tc.want || tc.e.Retryable() != tc.again {
			t.Errorf("got %q, again %t; want %q, %t", got, tc.e.Retryable(), tc.want, tc.again)
		}
	}
}
