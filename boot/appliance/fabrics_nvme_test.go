package appliance

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProblemsOfNVMe(t *testing.T) {
	nvme := func(line string) string { return head + "fabrics:\n  nvme:\n    - " + line + "\n" }
	const flash = `subsystem: nqn.x:a, paths: ["tcp://192.0.2.40"]`
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"paths in both forms, ports left out, a discovery controller", nvme(`{name: a, subsystem: nqn.x:a, paths: ["tcp://192.0.2.40", {address: "tcp://[2001:db8::1]:4421", host-interface: eth1}], min-paths: 2}`) +
			"    - {name: all, discovery: [\"tcp://192.0.2.41\"]}\n", nil},
		{"nothing says where it is", nvme(`{name: a, subsystem: nqn.x:a}`),
			[]string{`f.yaml:5:7: a: nothing says where it is; add paths: [tcp://ADDRESS:4420] or discovery: [tcp://ADDRESS:8009]`}},
		{"paths of nothing", nvme(`{name: a, paths: ["tcp://192.0.2.40"]}`),
			[]string{`f.yaml:5:7: a has paths, but names no subsystem; add subsystem: NQN, or write discovery in the place of paths`}},
		{"a host name", nvme(`{name: a, subsystem: nqn.x:a, paths: ["tcp://flash.example.net:4420"]}`),
			[]string{`f.yaml:5:45: "tcp://flash.example.net:4420": "flash.example.net" is no address, and the kernel takes nothing else; write tcp://192.0.2.40:4420 or tcp://[2001:db8::40]:4420`}},
		{"no scheme", nvme(`{name: a, subsystem: nqn.x:a, paths: [192.0.2.40]}`),
			[]string{`f.yaml:5:45: "192.0.2.40" does not begin with tcp://; write tcp://192.0.2.40:4420 or tcp://[2001:db8::40]:4420`}},
		{"a transport that is not built", nvme(`{name: a, subsystem: nqn.x:a, paths: ["rdma://192.0.2.40"]}`),
			[]string{`f.yaml:5:45: "rdma://192.0.2.40": rdma is not built; only tcp is; write tcp://192.0.2.40:4420 or tcp://[2001:db8::40]:4420`}},
		{"the same path twice", nvme(`{name: a, subsystem: nqn.x:a, paths: ["tcp://192.0.2.40", "tcp://192.0.2.40:4420"]}`),
			[]string{`f.yaml:5:65: tcp://192.0.2.40:4420 stands twice: in fabrics.nvme[0].paths[0] and here; remove one of them`}},
		{"more paths than there are", nvme(`{name: a, ` + flash + `, min-paths: 2}`),
			[]string{`f.yaml:5:77: 2 paths cannot be up, of 1; from 1 to 1`}},
		{"no NQN", nvme(`{name: a, subsystem: flash, paths: ["tcp://192.0.2.40"]}`),
			[]string{`f.yaml:5:28: "flash" is no NQN; it begins with nqn.YEAR-MONTH. and a domain name turned round: nqn.2026-01.net.example:flash`}},
		{"the name of discovery controllers", nvme(`{name: a, subsystem: nqn.2014-08.org.nvmexpress.discovery, paths: ["tcp://192.0.2.40"]}`),
			[]string{`f.yaml:5:28: this is the name of discovery controllers; write discovery: [tcp://…], and the subsystem that is wanted, or none for all`}},
		{"a name without its ID", nvme(`{name: a, ` + flash + `, host-nqn: nqn.x:me}`),
			[]string{`f.yaml:5:7: host-nqn and host-id belong together: the kernel takes one name for one id; give both or neither`}},
		{"a secret that is asked for", nvme(`{name: a, ` + flash + `, dhchap: {secret: prompt}}`),
			[]string{`f.yaml:5:83: a secret that two sides share is neither made up nor asked for at each boot; write kmip, {kmip: {name: …}} or {file: PATH}`}},
		{"half a second", nvme(`{name: a, ` + flash + `, options: {reconnect-delay: 500ms}}`),
			[]string{`f.yaml:5:93: reconnect-delay 500ms is nothing that the kernel takes; whole seconds, from 1s to 24h`}},
		{"I/O that fails after the disk is gone", nvme(`{name: a, ` + flash + `, options: {ctrl-loss: 5s, fast-io-fail: 10s}}`),
			[]string{`f.yaml:5:105: I/O cannot begin to fail after 10s: the disk is gone after 5s; at most ctrl-loss`}},
		{"a limit that is none", nvme(`{name: a, ` + flash + `, options: {ctrl-loss: always}}`),
			[]string{`f.yaml:5:87: fabrics.nvme[0].options.ctrl-loss: "always" is no limit: write never, or a duration such as 30s or 10m`}},
		{"a root that may be lost", nvme(`{name: a, `+flash+`, options: {ctrl-loss: 10m}}`) + "mounts: [{what: nvme/a/1, where: /, type: ext4}]\n",
			[]string{`f.yaml:5:87: the root is on a: when its disk fails, so does everything, while waiting can be waited out; leave it out, or write never`}},
		{"a mount of what another node may have, below a volume", nvme(`{name: a, `+flash+`, active: cluster}`) +
			"media: {luks: [{name: v, device: nvme/a/1, key: prompt}]}\nmounts: [{what: luks/v, where: /srv, type: ext4}]\n",
			[]string{`f.yaml:7:17: /srv is on nvme/a, which is shared (f.yaml:5:74): another node may have it by now, so nothing mounts it by itself; remove the mount, or write active: here there`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(tt.text)}})
			if tt.want == nil {
				if err != nil {
					t.Errorf("Parse: %v", err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, problems(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
