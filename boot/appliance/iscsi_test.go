package appliance

import (
	"strings"
	"testing"
)

// What people get wrong about an iSCSI target is said where it stands.
func TestProblemsOfISCSI(t *testing.T) {
	entry := func(s string) string { return head + "fabrics:\n  iscsi:\n    - {name: d, " + s + "}\n" }
	const good = "target: iqn.2026-01.net.example:d, portals: [192.0.2.50]"
	for _, tc := range []struct{ name, text, want string }{
		{"no portal", entry("target: iqn.2026-01.net.example:d, portals: []"), "nothing says where it is"},
		{"no target", entry("portals: [192.0.2.50]"), `has no "target"`},
		{"a name that is none", entry("target: vm-disks, portals: [192.0.2.50]"), `"vm-disks" is no iSCSI name`},
		{"capital letters", entry("target: \"iqn.2026-01.net.example:Disks\", portals: [192.0.2.50]"), `write "iqn.2026-01.net.example:disks"`},
		{"a portal twice, in two spellings", entry("target: iqn.2026-01.net.example:d, portals: [\"2001:db8::1\", \"[2001:DB8::1]:3260\"]"), "stands twice"},
		{"a port that is none", entry("target: iqn.2026-01.net.example:d, portals: [\"192.0.2.50:99999\"]"), "is no port"},
		{"an address that is none", entry("target: iqn.2026-01.net.example:d, portals: [192.0.2.500]"), "is no address"},
		{"a source of the other family", entry("target: iqn.2026-01.net.example:d, portals: [{address: 192.0.2.50, host-address: \"2001:db8::1\"}]"), "is none from which 192.0.2.50 could be reached"},
		{"more paths than portals", entry(good + ", min-paths: 2"), "2 portals cannot be logged in to, of 1"},
		{"a LUN twice", entry(good + ", luns: [{lun: 1, name: a}, {lun: 1, name: b}]"), "LUN 1 stands twice"},
		{"a LUN that is called as another one is numbered", entry(good + ", luns: [{lun: 2}, {lun: 1, name: \"2\"}]"), "LUN 1 would be called as fabrics.iscsi[0].luns[0] is"},
		{"a portal by two interfaces", entry("target: iqn.2026-01.net.example:d, portals: [192.0.2.50, {address: 192.0.2.50, host-interface: eth1}]"), "make a bond of the interfaces"},
		{"a LUN that is none", entry(good + ", luns: [{lun: 20000}]"), "20000 is no LUN"},
		{"CHAP by a question", entry(good + ", chap: {user: u, secret: prompt}"), "neither made up nor asked for"},
		{"a mutual name without its secret", entry(good + ", chap: {user: u, secret: {file: /x}, mutual-user: t}"), "no secret by which it proves it"},
		{"an algorithm nobody knows", entry(good + ", chap: {user: u, secret: {file: /x}, algorithms: [sha512]}"), `"sha512" is not known`},
		{"three R2Ts", entry(good + ", options: {max-r2t: 3}"), "max-r2t 3 is no power of 2"},
		{"a first burst above the most", entry(good + ", options: {max-burst: 8192, first-burst: 16384}"), "a first burst of 16384 bytes is more"},
		{"half a second", entry(good + ", options: {nop-interval: 500ms}"), "nothing that the kernel takes"},
		{"a digest nobody knows", entry(good + ", options: {header-digest: md5}"), `"md5" is not known`},
		{"a cluster's disk that is mounted", entry(good+", active: cluster") + "mounts:\n  - {what: iscsi/d/0, where: /srv, type: ext4}\n", "nothing mounts it by itself"},
		{"a volume on a cluster's disk that is mounted", entry(good+", active: cluster") + "media:\n  luks:\n    - {name: v, device: iscsi/d/0, key: prompt}\nmounts:\n  - {what: luks/v, where: /srv, type: ext4}\n", "nothing mounts it by itself"},
		{"a root that may fail", entry(good+", options: {recovery-timeout: 10s}") + "mounts:\n  - {what: iscsi/d/0, where: /, type: ext4}\n", "waiting can be waited out"},
	} {
		_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(tc.text)}})
		if err == nil {
			t.Errorf("%s: it loads", tc.name)
			continue
		}
		if got := strings.Join(problems(t, err), "\n"); !strings.Contains(got, tc.want) || !strings.Contains(got, "f.yaml:") {
			t.Errorf("%s: got\n%s\nwant %q", tc.name, got, tc.want)
		}
	}
	if _, err := Parse([]Source{{Name: "f.yaml", Data: []byte(entry(good + ", options: {recovery-timeout: 0s, immediate-data: false}, luns: [{lun: 0}, {lun: 300, name: far}]"))}}); err != nil {
		t.Error(err)
	}
}
