package appliance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: initd/v1\nname: t\n"

func problems(t *testing.T, err error) []string {
	t.Helper()
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("Parse: got %v, want *Problems", err)
	}
	return strings.Split(p.Error(), "\n")
}

func TestProblems(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a misspelt section", "apiVersion: initd/v1\nname: t\nmedai: {}\n",
			[]string{`f.yaml:3:1: unknown key "medai" in the file; did you mean "media"?`}},
		{"a section that is not built yet", head + "rbd: []\n",
			[]string{`f.yaml:3:1: unknown key "rbd" in the file; known here: apiVersion, name, budgets, shell, state, firmware, network, time, keys, media, fabrics, mounts, services, jobs, sysctl, image`}},
		{"a relative mount point", head + "mounts:\n  - {what: uuid/1, where: srv/x, type: xfs}\n",
			[]string{`f.yaml:4:27: mounts[0].where: "srv/x" is a relative path; write "/srv/x"`}},
		{"a name given twice", head + "media:\n  luks:\n    - {name: a, device: uuid/1, key: prompt}\n    - {name: a, device: uuid/2, key: prompt}\n",
			[]string{`f.yaml:6:14: media.luks: the name "a" is taken by the entry in f.yaml:5:7; rename one of them`}},
		{"a key given twice", head + "name: u\n",
			[]string{`f.yaml:3:1: key "name" stands twice; first in line 2; merge the two`}},
		{"a fact without its dollar", head + "keys: {default-name: {machine.name}}\n",
			[]string{`f.yaml:3:22: keys.default-name is one value, not a mapping; a fact is written "${machine.name}", with a dollar and in quotes`}},
		{"an unknown fact", head + "keys: {default-name: \"${machine.serail}\"}\n",
			[]string{`f.yaml:3:22: keys.default-name: unknown fact ${machine.serail}; did you mean "machine.serial"?`}},
		{"a key by KMIP without a server", head + "media:\n  luks:\n    - {name: a, device: uuid/1, key: kmip}\n",
			[]string{`f.yaml:5:38: the key comes by KMIP, but the file names no key server; add keys: {servers: […]}`}},
		{"a mapping where a list belongs", head + "mounts: {what: uuid/1}\n",
			[]string{`f.yaml:3:9: mounts is a list, not a mapping; write each entry on a line of its own, with a dash before it`}},
		{"an anchor", head + "budgets: &b {boot: 1m}\n",
			[]string{`f.yaml:3:10: anchors and aliases are not part of this format; write the value out; a text that begins with & or * goes into quotes`}},
		{"a link that is two things", head + "network: {links: [{name: a, dummy: true, vlan: {id: 5, link: b}}, {name: b}]}\n",
			[]string{
				`f.yaml:3:19: a: a link is one of bond, vlan, bridge and dummy; make a link of each, and name one in the other`,
			}},
		{"a VLAN on a link that is not there", head + "network: {links: [{name: a, vlan: {id: 4095, link: bnod0}}, {name: bond0, bond: {mode: lacp, members: []}}]}\n",
			[]string{
				`f.yaml:3:40: VLAN 4095 does not exist; from 1 to 4094`,
				`f.yaml:3:52: a: no link "bnod0" in this file; did you mean "bond0"?`,
				`f.yaml:3:88: network.links[1].bond.mode: "lacp" is not known; write one of: 802.3ad, active-backup`,
				`f.yaml:3:103: a bond without members carries nothing; write members: [eth0, eth1]`,
			}},
		{"a link on itself", head + "network: {links: [{name: a, vlan: {id: 1, link: b}}, {name: b, bridge: {ports: [a]}}]}\n",
			[]string{
				`f.yaml:3:19: a stands on itself`,
				`f.yaml:3:54: b stands on itself`,
			}},
		{"a member with an address, which two bonds have", head + "network: {links: [{name: e, addresses: [dhcp4]}, {name: a, bond: {mode: active-backup, members: [e, f]}}, {name: b, bond: {mode: 802.3ad, members: [f]}}]}\n",
			[]string{
				`f.yaml:3:40: e is a part of a, and cannot have addresses of its own; move them to a`,
				`f.yaml:3:107: b: f is taken by a already; take it out of one of them`,
			}},
		{"keys of the other mode", head + "network: {links: [{name: a, bond: {mode: active-backup, members: [x], xmit-hash: layer2, primary: y}}]}\n",
			[]string{
				`f.yaml:3:82: xmit-hash means nothing to an active-backup bond; leave it out`,
				`f.yaml:3:99: y is no member; write one of the members, as it stands there`,
			}},
		{"nothing to rename", head + "network: {links: [{name: a, rename: true}]}\n",
			[]string{
				`f.yaml:3:37: a: without a match there is nothing to rename; add match: {mac: …} or {path: …}`,
			}},
		{"a name that changes", head + "network: {links: [{name: a, rename: true, match: {name: eth0}}]}\n",
			[]string{`f.yaml:3:57: a: by its old name nobody finds it once it has its new one; write mac or path there`}},
		{"a member that is no name", head + "network: {links: [{name: a, bond: {mode: 802.3ad, members: [52:54:00:00:00:01, {mac: x}]}}]}\n",
			[]string{
				`f.yaml:3:61: "52:54:00:00:00:01" cannot name a link; a name, or {mac: "52:54:00:00:00:01"}`,
				`f.yaml:3:86: "x" is no hardware address; write it as "52:54:00:00:00:01"`,
			}},
		{"an interface, a VLAN and an address that two links have", head + "network: {links: [{name: a, match: {mac: \"52:54:00:00:00:0A\"}, addresses: [192.0.2.1/24, \"fe80::1/64\"]}, {name: b, match: {mac: \"52:54:00:00:00:0a\"}, addresses: [\"fe80::1/64\"]}, {name: c, vlan: {id: 5, link: a}}, {name: d, vlan: {id: 5, link: a, protocol: 802.1Q}}, {name: e, vlan: {id: 5, link: a, protocol: 802.1ad}, addresses: [192.0.2.1/32]}]}\n",
			[]string{
				`f.yaml:3:123: b: the interface that has 52:54:00:00:00:0a is a's already; write one link, with all of the addresses`,
				`f.yaml:3:230: d: VLAN 5 on a is c's already; write one link, with all of the addresses`,
				`f.yaml:3:332: e: 192.0.2.1 is a's already; take it from one of them`,
			}},
		{"a member by its MAC, with an address", head + "network: {links: [{name: e, match: {mac: \"52:54:00:00:00:0A\"}, addresses: [dhcp4]}, {name: a, bond: {mode: 802.3ad, members: [{mac: \"52:54:00:00:00:0a\"}]}}]}\n",
			[]string{`f.yaml:3:75: e is a part of a, and cannot have addresses of its own; move them to a`}},
		{"a VLAN with larger packets than what it is on", head + "network: {links: [{name: a, mtu: 1500}, {name: v, vlan: {id: 5, link: a}, mtu: 9000}]}\n",
			[]string{`f.yaml:3:80: mtu 9000 of v is more than that of a below it, 1500; at most 1500, or give a more`}},
		{"a portal and a path that are on every link", head + "fabrics: {nvme: [{name: n, subsystem: nqn.x:a, paths: [\"tcp://[fe80::40]\", \"tcp://[fe80::40%eth0]\"]}], iscsi: [{name: i, target: eui.02004567A425678D, portals: [\"fe80::50\", {address: \"fe80::51\", host-interface: eth1}]}]}\n",
			[]string{
				`f.yaml:3:56: [fe80::40]:4420 is on every link: nothing says on which this one is; add host-interface: LINK, or write fe80::40%INTERFACE`,
				`f.yaml:3:162: fe80::50 is on every link: nothing says on which this one is; add host-interface: LINK, or write fe80::50%INTERFACE`,
			}},
		{"routes that lead nowhere", head + "network: {links: [{name: a}], routes: [{to: default, type: blackhole}, {to: 10.0.0.0/8, type: blackhole, via: 10.0.0.1}, {to: 2001:db8::/32, via: 192.0.2.1}, {to: 10.0.0.0/8, via: 10.0.0.1, source: \"::1\", onlink: true}]}\n",
			[]string{
				`f.yaml:3:45: nothing says of which family this default is; write 0.0.0.0/0 or ::/0`,
				`f.yaml:3:72: a route of type blackhole leads nowhere; leave out via, link, source and onlink`,
				`f.yaml:3:147: 192.0.2.1 cannot lead to 2001:db8::/32; write an IPv6 gateway`,
				`f.yaml:3:199: packets to 10.0.0.0/8 cannot come from ::1; write an address of the destination's family`,
				`f.yaml:3:214: onlink says that the gateway via is on link, and one of them is missing; give via and link`,
			}},
		{"a rule for everything", head + "network: {rules: [{table: 100, priority: 100}, {from: 10.0.0.1/8, to: \"::/0\", table: 0, priority: 32766}]}\n",
			[]string{
				`f.yaml:3:19: the rule with priority 100 would apply to everything; give from, to, link or mark`,
				`f.yaml:3:48: a rule from 10.0.0.1/8 to ::/0 can never match`,
				`f.yaml:3:55: "10.0.0.1/8" has bits set beyond its prefix; write 10.0.0.0/8`,
				`f.yaml:3:86: table 0 is out of range; from 1 to 2147483647`,
				`f.yaml:3:99: priority 32766 is out of range; from 1 to 32765`,
			}},
		{"an address without its prefix", head + "network: {links: [{name: a, addresses: [192.0.2.1]}]}\n",
			[]string{`f.yaml:3:41: "192.0.2.1" is no address with a prefix length, nor dhcp4, dhcp6 or ra; write its prefix length too, such as 192.0.2.1/24`}},
		{"several at once, in order", head + "servces: []\nmounts:\n  - {what: uuid/1, where: x, type: zfs}\n",
			[]string{
				`f.yaml:3:1: unknown key "servces" in the file; did you mean "services"?`,
				`f.yaml:5:27: mounts[0].where: "x" is a relative path; write "/x"`,
				`f.yaml:5:36: mounts[0].type: "zfs" is not known; did you mean "xfs"?`,
			}},
		{"a misspelt key is read as what it means, so that the rest is found too", head + "mounst:\n  - {what: uuid/1, wher: srv, type: xfs}\n",
			[]string{
				`f.yaml:3:1: unknown key "mounst" in the file; did you mean "mounts"?`,
				`f.yaml:4:20: unknown key "wher" in mounts[0]; did you mean "where"?`,
				`f.yaml:4:26: mounts[0].where: "srv" is a relative path; write "/srv"`,
			}},
		{"one value where a list of them belongs", head + "time: {servers: 192.0.2.1}\n",
			[]string{`f.yaml:3:17: time.servers is a list, not the value "192.0.2.1"; write servers: [192.0.2.1]`}},
		{"a tab", head + "time:\n\tservers: []\n",
			[]string{`f.yaml:4:1: YAML syntax: found character that cannot start any token; indent with spaces: YAML takes no tabs`}},
		{"a bracket that is never closed", head + "time: {servers: [a\nname: b\n",
			[]string{`f.yaml:4:5: YAML syntax: did not find expected ',' or ']'; look at the indentation, the brackets and the quotes here and in the line above`}},
		{"what is no text", head + "state: \"\xe9\"\n", []string{`f.yaml:3:9: the byte 0xe9 is not UTF-8; save the file as text in UTF-8`}},
		{"a NUL", head + "time:\n  é\x00\n", []string{`f.yaml:4:4: the control character U+0000; save the file as text in UTF-8`}},
		{"a NUL that is written out", head + "mounts: [{what: dev/vda, where: \"/x\\0y\", type: ext4}]\n",
			[]string{`f.yaml:3:33: mounts[0].where: no name, path or argument can have the character NUL; leave it out`}},
		{"a line break in a path", head + "mounts: [{what: dev/vda, where: \"/x\\ny\", type: ext4}]\n",
			[]string{`f.yaml:3:33: mounts[0].where: there is a control character in the path "/x\ny"; leave it out`}},
		{"a merge key", head + "time: {<<: {servers: [192.0.2.1]}}\n",
			[]string{`f.yaml:3:8: anchors and aliases are not part of this format; write the value out; a text that begins with & or * goes into quotes`}},
		{"a key that is a list", head + "? [a, b]\n: c\n",
			[]string{`f.yaml:3:3: a key of the file is one word, not a list; known here: apiVersion, name, budgets, shell, state, firmware, network, time, keys, media, fabrics, mounts, services, jobs, sysctl, image`}},
		{"a name without a letter", "apiVersion: initd/v1\nname: \"\"\n", []string{`f.yaml:2:7: name is empty: the machine's name; ${machine.name} in this file`}},
		{"no time at all", head + "mounts: [{what: dev/vda, where: /x, type: ext4, wait: 0s}]\n",
			[]string{`f.yaml:3:55: mounts[0].wait: "0s" is no time: write one that is longer, or leave the key out for its default`}},
		{"a key by id and by name", head + "keys: {servers: [{name: k, address: \"k:1\"}]}\nmedia: {luks: [{name: a, device: dev/vda, key: {kmip: {id: x, name: y}}}]}\n",
			[]string{`f.yaml:4:55: an id says it all: name, group and attributes cannot stand beside it; give the id alone`}},
		{"a key by an attribute that is none", head + "keys: {servers: [{name: k, address: \"k:1\"}]}\nmedia: {luks: [{name: a, device: dev/vda, key: {kmip: {attributes: {Serial: y}}}}]}\n",
			[]string{`f.yaml:4:77: "Serial" is no custom attribute; custom attributes begin with x- (client) or y- (server)`}},
		{"a volume that contradicts itself", head + "media: {luks: [{name: control, device: dev/vda, header: dev/vda, key: prompt}, {name: b, device: dev/vdb, read-only: true, key: ephemeral}]}\n",
			[]string{
				`f.yaml:3:23: /dev/mapper/control belongs to the kernel; choose another name`,
				`f.yaml:3:57: dev/vda cannot hold both the data and a header that is detached from it; leave it out, unless the header lies elsewhere`,
				`f.yaml:3:118: a volume with an ephemeral key is empty, and read-only nothing can get into it; leave it out`,
			}},
		{"a parameter by two names", head + "sysctl: {vm.swappiness: \"10\", vm/swappiness: \"20\"}\n",
			[]string{`f.yaml:3:46: "vm.swappiness" and "vm/swappiness" are the same parameter; remove one of them`}},
		{"no version", "name: t\n", []string{`f.yaml:1:1: the file has no "apiVersion": always initd/v1`}},
		{"an empty file", "", []string{`f.yaml:1:1: the file is empty; start with the line "apiVersion: initd/v1"`}},
		{"a password in clear", head + "shell: {password: secret}\n",
			[]string{`f.yaml:3:8: shell: the password is not a crypt(3) hash, and no secret may stand in this file; make one with: openssl passwd -6`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(tt.text)}})
			if diff := cmp.Diff(tt.want, problems(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScalarsKeepTheirSourceText(t *testing.T) {
	a, err := Parse([]Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: 010\nservices:\n  - {name: no, command: [/bin/x, 1e3, on, 0x10, ~], env: {A: yes}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "010" {
		t.Errorf("name: got %q, want the text 010", a.Name)
	}
	if diff := cmp.Diff([]string{"/bin/x", "1e3", "on", "0x10", "~"}, a.Services[0].Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if a.Services[0].Name != "no" || a.Services[0].Env["A"] != "yes" {
		t.Errorf("name and env: got %q and %q", a.Services[0].Name, a.Services[0].Env["A"])
	}
}

func TestLayers(t *testing.T) {
	base := head + "mounts:\n  - {what: uuid/1, where: /a, type: xfs}\nmedia:\n  luks:\n    - {name: a, device: uuid/1, key: prompt}\n    - {name: b, device: uuid/2, key: prompt}\nbudgets: {boot: 1m, shutdown: 20s}\n"
	over := "media:\n  luks:\n    - {name: a, discards: true}\n    - {name: b, remove: true}\n    - {name: c, device: uuid/3, key: prompt}\nbudgets: {boot: 2m}\n"
	a, err := Parse([]Source{{"base.yaml", []byte(base)}, {"10-over.yaml", []byte(over)}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range a.Media.LUKS {
		got = append(got, l.Name+" "+l.Device+" "+map[bool]string{true: "discards"}[l.Discards])
	}
	if diff := cmp.Diff([]string{"a uuid/1 discards", "c uuid/3 "}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if a.Budgets.Boot.String() != "2m0s" || a.Budgets.Shutdown.String() != "20s" {
		t.Errorf("budgets: got %v and %v, want 2m0s and 20s", a.Budgets.Boot, a.Budgets.Shutdown)
	}
	if p := a.At("media.luks[1].device"); p.File != "10-over.yaml" {
		t.Errorf("position of a layer's value: got %v, want it in 10-over.yaml", p)
	}
}

func TestALayerThatContradictsItselfIsRefused(t *testing.T) {
	base := head + "media: {luks: [{name: tank0, device: uuid/1, key: prompt}]}\n"
	over := "media:\n  luks:\n    - {name: tank0, discards: true}\n    - {name: tank0, discards: false}\n"
	_, err := Parse([]Source{{"base.yaml", []byte(base)}, {"10-over.yaml", []byte(over)}})
	want := []string{
		`10-over.yaml:4:14: media.luks: "tank0" stands twice in this layer; first in line 3; merge the two`,
	}
	if diff := cmp.Diff(want, problems(t, err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestALayerMayRemoveWhatHasGoneAlready(t *testing.T) {
	base := head + "media: {luks: [{name: tank0, device: uuid/1, key: prompt}]}\n"
	a, err := Parse([]Source{{"base.yaml", []byte(base)}, {"10-over.yaml", []byte("media: {luks: [{name: tank1, remove: true}]}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`10-over.yaml:1:23: media.luks: there is no "tank1" to remove; did you mean "tank0"?`}
	if diff := cmp.Diff(want, a.Notes); diff != "" || len(a.Media.LUKS) != 1 {
		t.Errorf("%d volumes, notes (-want +got):\n%s", len(a.Media.LUKS), diff)
	}
}

// A state disk's file may be anything: it costs neither the machine's memory nor its time.
func TestAFileOfMoreThanAnybodyWritesEndsSoonWithFewProblems(t *testing.T) {
	of := func(n int, format string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, strings.ReplaceAll(format, "%", "%[1]d"), i)
		}
		return s.String()
	}
	for name, row := range map[string]struct{ text, last string }{
		"more values than are taken": {head + "mounts: [" + strings.Repeat("a,", 500_000) + "]\n", "f.yaml:3:499996: there are more than 250000 values up to here"},
		"more links than there are":  {head + "network: {links: [" + of(50_000, "{name: a%},") + "]}\n", "f.yaml:3:18: 50000 links, at most 5000 are taken"},
		"keys that nobody knows":     {head + of(50_000, "k%: 1\n"), "and 49000 more"},
		"links that are not there":   {head + "network: {links: [" + of(4000, "{name: a%, vlan: {id: 1, link: b%}},") + "]}\n", "and 3000 more"},
		"more bytes than are taken":  {head + "#" + strings.Repeat("x", 5<<20), "f.yaml:1:1: the file and its layers have 5242910 bytes, at most 4194304 are taken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(row.text)}})
			got := problems(t, err)
			if len(got) > maxProblems+1 || got[len(got)-1] != row.last {
				t.Errorf("%d problems, the last is %s; want %s", len(got), got[len(got)-1], row.last)
			}
		})
	}
}

func TestDocumentedFileLoadsAndIsCanonical(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "appliance.yaml")
	a, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, ty := range sectionTypes() {
		for _, f := range structFields(ty) {
			if f.doc == "" {
				t.Errorf("%s: the key %q has no doc tag", ty.Name(), f.key)
			}
			if yaml11Boolean(f.key) {
				t.Errorf("%s: the key %q is a boolean in YAML 1.1", ty.Name(), f.key)
			}
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, ty := range sectionTypes() { // README says that it has every key
		for _, f := range structFields(ty) {
			if !regexp.MustCompile(`(^|[^a-z-])` + f.key + `:`).Match(data) {
				t.Errorf("docs/appliance.yaml lacks %s of %s", f.key, ty.Name())
			}
		}
	}
	once, err := Format(Source{"a", data})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := Format(Source{"a", once})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(once), string(twice)); diff != "" {
		t.Errorf("formatting twice differs (-once +twice):\n%s", diff)
	}
	b, err := Parse([]Source{{"a", once}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Media.LUKS[1].Key.KMIP.Name != b.Media.LUKS[1].Key.KMIP.Name || len(a.Services) != len(b.Services) {
		t.Error("the formatted file means something else")
	}
}

func yaml11Boolean(key string) bool {
	switch strings.ToLower(key) {
	case "on", "off", "yes", "no", "y", "n", "true", "false":
		return true
	}
	return false
}

func TestSchemaNamesEveryKey(t *testing.T) {
	b, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, ty := range sectionTypes() {
		for _, f := range structFields(ty) {
			if !strings.Contains(string(b), `"`+f.key+`"`) {
				t.Errorf("the schema lacks %s of %s", f.key, ty.Name())
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "mounts: [{what: luks/a, where: /a, type: xfs}]"))
	f.Add([]byte(head + "keys: {servers: [{name: a, address: \"[::1]:5696\"}]}\nmedia: {luks: [{name: x, device: uuid/1, key: {kmip: {id: q}}}]}"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse([]Source{{"f.yaml", b}})
		if err == nil && a == nil {
			t.Fatal("neither an appliance nor an error")
		}
		if err != nil {
			return
		}
		out, err := Format(Source{"f.yaml", b})
		if err != nil {
			t.Fatalf("a file that loads does not format: %v", err)
		}
		if _, err := Parse([]Source{{"f.yaml", out}}); err != nil {
			t.Fatalf("the formatted file does not load: %v\n%s", err, out)
		}
	})
}
