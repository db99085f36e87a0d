package report

import "testing"

func TestTheWayToAnEndpointIsAskedForAsThePlanSays(t *testing.T) {
	for name, want := range map[string]string{
		"192.0.2.50:3260":                         "ip route get 192.0.2.50",
		"[2001:db8::50]:3260":                     "ip route get 2001:db8::50",
		"eth1/192.0.2.50:3260":                    "ip route get 192.0.2.50 oif eth1",
		"@192.0.2.17/192.0.2.50:3260":             "ip route get 192.0.2.50 from 192.0.2.17",
		"eth1@2001:db8::17/[2001:db8::50]:3260":   "ip route get 2001:db8::50 from 2001:db8::17 oif eth1",
		"storage@192.0.2.17/disks.example.net:80": "ip route get disks.example.net from 192.0.2.17 oif storage",
	} {
		if got := routeGet(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
