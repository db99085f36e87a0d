package iscsi

import "testing"

func TestEveryOptionTakesWhatItsDescriptionSaysAndNothingElse(t *testing.T) {
	good := map[string]string{"header-digest": "crc32c,none", "data-digest": "None", "initial-r2t": "true", "immediate-data": "false",
		"fast-abort": "false", "recovery-timeout": "never", "max-r2t": "4", "commands": "256", "queue-depth": "64",
		"max-recv": "65536", "max-xmit": "65536", "max-burst": "524288", "first-burst": "524288"}
	c := Config{Target: "iqn.2026-01.net.example:a", Initiator: testInitiator}
	for _, o := range Options() {
		v, ok := good[o.Name]
		if !ok {
			v = "7s"
		}
		if err := c.Set(o.Name, v); err != nil {
			t.Errorf("%s=%s: %v", o.Name, v, err)
		}
		for _, bad := range []string{"", "-1", "x", "1.5s"} {
			other := c
			if err := other.Set(o.Name, bad); err == nil {
				t.Errorf("%s=%q is taken", o.Name, bad)
			}
		}
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if got := c.Timing; *got.Recovery != -1 || !got.SlowAbort || got.NopInterval != 7 || got.Commands != 256 {
		t.Errorf("got %+v", got)
	}
	if err := c.Set("no-such", "1"); code(err) != "ISCSI-CONFIG" {
		t.Error(err)
	}
	for name, v := range map[string]string{"commands": "100", "queue-depth": "2000", "max-recv": "100", "nop-interval": "2h"} {
		other := Config{Target: "iqn.2026-01.net.example:a", Initiator: testInitiator}
		if err := other.Set(name, v); err != nil {
			t.Errorf("%s=%s: %v", name, v, err)
		}
		if err := other.Check(); code(err) != "ISCSI-CONFIG" {
			t.Errorf("%s=%s: %v", name, v, err)
		}
	}
}
