package step

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/plan"
	"initd/hw/nvmeof"
)

// nvmePlan compiles a file with these lines below fabrics.nvme, and what follows.
func nvmePlan(t *testing.T, lines, rest string) *plan.Plan {
	t.Helper()
	file := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: initd/v1\nname: x\nfabrics:\n  nvme:\n"+lines+rest), 0o644); err != nil {
		t.Fatal(err)
	}
	return compile(t, file)
}

func TestWhatALineOfNVMeBecomes(t *testing.T) {
	p := nvmePlan(t, `    - {name: a, subsystem: "nqn.x:a", paths: ["tcp://192.0.2.40", {address: "tcp://192.0.2.40", host-interface: eth1}, "tcp://[2001:db8::40]"], min-paths: 2,
       dhchap: {secret: {file: /etc/s}, controller-secret: {file: /etc/c}}, options: {fast-io-fail: 5s, keep-alive: 7s, queues: 2}}
`, "mounts: [{what: nvme/a/12, where: /srv, type: ext4}]\n")
	u := p.Unit("nvme/a")
	if u == nil {
		t.Fatal("no unit nvme/a")
	}
	want := []plan.Need{
		{AnyOf: []plan.Resource{"endpoint/192.0.2.40:4420", "endpoint/[2001:db8::40]:4420", "endpoint/eth1/192.0.2.40:4420"}, Min: 2, Mode: plan.Require},
		{AnyOf: []plan.Resource{"key/nvme/a"}, Min: 1, Mode: plan.Require},
		{AnyOf: []plan.Resource{"key/nvme/a/controller"}, Min: 1, Mode: plan.Require},
	}
	if diff := cmp.Diff(want, u.Needs); diff != "" {
		t.Errorf("nvme/a needs (-want +got):\n%s", diff)
	}
	var s nvmeSpec
	if err := json.Unmarshal(u.Spec, &s); err != nil {
		t.Fatal(err)
	}
	o := nvmeof.Steadfast()
	o.FastIOFail, o.KeepAlive, o.Queues = 5e9, 7e9, 2
	if s.Options != o || s.MinPaths != 2 || len(s.Paths) != 3 || s.Paths[1].HostIface != "eth1" || s.Secret != "nvme/a" || s.CtrlSecret != "nvme/a/controller" {
		t.Errorf("%+v", s)
	}
	disk := p.Unit("nvme/a/12")
	if disk == nil || disk.Needs[0].AnyOf[0] != "nvme/a" || p.Unit("mount/srv").Needs[0].AnyOf[0] != "nvme/a/12" {
		t.Errorf("the namespace: %+v", disk)
	}
	if strings.Contains(string(u.Spec), "/etc/") {
		t.Errorf("the way to a secret is in the plan of the subsystem: %s", u.Spec)
	}
}

// kept is a unit with paths in the states that the words say: up, connecting, refused, denied, busy.
func kept(s nvmeSpec, words ...string) *nvmeKept {
	u := &nvmeKept{id: "nvme/" + s.Name, spec: s, changed: make(chan struct{}, 1)}
	for i, w := range words {
		p := &nvmePath{target: nvmeof.Target{NQN: "nqn.x:a", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4420)}, rank: i}
		switch w {
		case "up":
			p.controller, p.state, p.live = "nvme0", nvmeof.StateLive, true
		case "connecting":
			p.controller, p.state, p.live = "nvme0", nvmeof.StateConnecting, true
		case "refused":
			p.failed = nvmeError(&nvmeof.ConnectError{Target: p.target, Reason: nvmeof.Refused})
		case "denied":
			p.failed = nvmeError(&nvmeof.ConnectError{Target: p.target, Reason: nvmeof.HostRefused})
		case "busy":
			p.busy = true
		}
		u.paths = append(u.paths, p)
	}
	return u
}

func TestWhenASubsystemIsUp(t *testing.T) {
	for _, row := range []struct {
		name         string
		min          int
		paths        []string
		up, hopeless bool
		code         string
	}{
		{"one of two is enough", 1, []string{"up", "refused"}, true, false, ""},
		{"two of two are wanted, and one may still come", 2, []string{"up", "refused"}, false, false, "NVME-PORTAL"},
		{"two of two are wanted, and somebody has to mend one", 2, []string{"up", "denied"}, false, true, "NVME-HOST"},
		{"one that reconnects is not up yet", 1, []string{"connecting"}, false, false, ""},
		{"all have to be mended", 1, []string{"denied", "denied"}, false, true, "NVME-HOST"},
		{"each fails for a reason of its own", 1, []string{"denied", "refused"}, false, false, "NVME-PATHS"},
		{"nobody has answered", 1, []string{"busy", "busy"}, false, false, "NVME-PATHS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := kept(nvmeSpec{Name: "a", Subsystem: "nqn.x:a", MinPaths: row.min}, row.paths...)
			up, hopeless := u.up()
			if up != row.up || hopeless != row.hopeless {
				t.Errorf("up %v, hopeless %v; want %v, %v", up, hopeless, row.up, row.hopeless)
			}
			var e *ChildError
			if row.code != "" && (!errors.As(u.failure(), &e) || e.CodeText != row.code) {
				t.Errorf("failure: %+v, want %s", e, row.code)
			}
		})
	}
	u := kept(nvmeSpec{Name: "a", MinPaths: 1, Discovery: []nvmeof.Target{{NQN: nvmeof.DiscoveryNQN}}})
	u.paths = append(u.paths, &nvmePath{target: nvmeof.Target{NQN: nvmeof.DiscoveryNQN}, read: true, controller: "nvme0", state: nvmeof.StateLive})
	var e *ChildError
	if up, hopeless := u.up(); up || !hopeless || !errors.As(u.failure(), &e) || e.CodeText != "NVME-SUBSYSTEM" {
		t.Errorf("a log that lists nothing: %v, %v, %v", up, hopeless, e)
	}
}

func TestFirstPathsAreConnectedFirst(t *testing.T) {
	q := newNVMeQueue(4)
	bad := errors.New("refused")
	q.looked(0, 1, nil)
	q.looked(1, 0, nil)
	q.looked(2, 1, bad)
	q.looked(3, 0, nil)
	var order []int
	for range 4 {
		i, err := q.next()
		order = append(order, i)
		if (err != nil) != (i == 2) {
			t.Errorf("path %d: %v", i, err)
		}
	}
	if diff := cmp.Diff([]int{2, 1, 3, 0}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestALogThatChanges(t *testing.T) {
	asked := nvmeof.Target{NQN: nvmeof.DiscoveryNQN, Addr: netip.MustParseAddrPort("192.0.2.1:8009")}
	to := func(nqn, addr string) nvmeof.Target {
		return nvmeof.Target{NQN: nqn, Addr: netip.MustParseAddrPort(addr)}
	}
	u := kept(nvmeSpec{Name: "a", MinPaths: 1, Discovery: []nvmeof.Target{asked}})
	u.paths = append(u.paths, &nvmePath{target: asked, read: true})
	listed := func() (list []string) {
		for _, p := range u.paths {
			list = append(list, p.target.NQN+" "+p.target.Addr.String())
		}
		return list[1:]
	}
	u.listed(asked, []nvmeof.Target{to("nqn.x:a", "192.0.2.1:4420"), to("nqn.x:a", "192.0.2.2:4420"), to("nqn.x:b", "192.0.2.1:4420")})
	u.paths[1].controller = "nvme1"
	u.listed(asked, []nvmeof.Target{to("nqn.x:c", "192.0.2.1:4420")})
	if diff := cmp.Diff([]string{"nqn.x:a 192.0.2.1:4420", "nqn.x:c 192.0.2.1:4420"}, listed()); diff != "" {
		t.Errorf("what is connected stays, the rest is not dialled any more (-want +got):\n%s", diff)
	}
	u.paths[1].controller = ""
	u.forget()
	if diff := cmp.Diff([]string{"nqn.x:c 192.0.2.1:4420"}, listed()); diff != "" {
		t.Errorf("what was connected goes when its connection does (-want +got):\n%s", diff)
	}
	other := nvmeof.Target{NQN: nvmeof.DiscoveryNQN, Addr: netip.MustParseAddrPort("192.0.2.2:8009")}
	u.listed(other, []nvmeof.Target{to("nqn.x:c", "192.0.2.1:4420"), to("nqn.x:f", "192.0.2.1:4420")})
	u.listed(asked, nil)
	if diff := cmp.Diff([]string{"nqn.x:c 192.0.2.1:4420", "nqn.x:f 192.0.2.1:4420"}, listed()); diff != "" {
		t.Errorf("what one of two still lists stays (-want +got):\n%s", diff)
	}
	u.listed(other, []nvmeof.Target{to("nqn.x:f", "192.0.2.1:4420")})
	u.listed(other, nil)
	if len(listed()) != 0 {
		t.Errorf("nobody lists anything, and there is %q", listed())
	}
	if up, _ := u.connected(); up {
		t.Error("nothing is left, and all is connected")
	}
	u.spec.Subsystem = "nqn.x:d"
	u.listed(asked, []nvmeof.Target{to("nqn.x:e", "192.0.2.1:4420"), to("nqn.x:d", "192.0.2.1:4420")})
	if got := listed(); got[len(got)-1] != "nqn.x:d 192.0.2.1:4420" || len(got) != 1 {
		t.Errorf("with a subsystem of its own: %q", got)
	}
}
