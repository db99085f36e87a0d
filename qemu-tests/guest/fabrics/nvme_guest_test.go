//go:build guest

package fabrics

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"initd/hw/link"
	"initd/hw/nvmeof"
	"initd/hw/secret/secrettest"
	"initd/hw/sysfs/sysfstest"
	"initd/hw/uevent"
	"initd/qemu-tests/peer/nvmet"
)

const (
	open, closed, proved, mutual = "nqn.2026-01.net.example:open", "nqn.2026-01.net.example:closed", "nqn.2026-01.net.example:proved", "nqn.2026-01.net.example:mutual"
	silent                       = "127.0.0.1:4999"

	right = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"
	other = "DHHC-1:00:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQHMnzFi:"
)

// us may use all but closed.
var us = nvmeof.HostOf("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5")

func namespace(id int) nvmet.Namespace { return nvmet.Namespace{ID: id, FileMiB: 16} }

// The kernel's target and its initiator, in one machine.
func TestNVMe(t *testing.T) {
	tgt := target(t)
	t.Run("connections", func(t *testing.T) { connections(t, tgt) })
	t.Run("refusals", func(t *testing.T) { refusals(t, tgt) })
	t.Run("discovery", func(t *testing.T) { discovery(t, tgt) })
}

func target(t *testing.T) *nvmet.Target {
	t.Helper()
	if err := link.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	all := []string{open, closed, proved, mutual}
	tgt, err := nvmet.Start(t.Context(), nvmet.Config{
		Subsystems: []nvmet.Subsystem{
			{NQN: open, Namespaces: []nvmet.Namespace{namespace(1), {ID: 7, FileMiB: 16, UUID: "11111111-2222-4333-8444-555555555555"}}},
			{NQN: closed, Hosts: []nvmet.Host{{NQN: "nqn.2026-01.net.example:nobody"}}, Namespaces: []nvmet.Namespace{namespace(1)}},
			{NQN: proved, Hosts: []nvmet.Host{{NQN: us.NQN, Key: right, Hash: "hmac(sha256)", DHGroup: "null"}}, Namespaces: []nvmet.Namespace{namespace(1)}},
			{NQN: mutual, Hosts: []nvmet.Host{{NQN: us.NQN, Key: right, CtrlKey: other, Hash: "hmac(sha256)", DHGroup: "ffdhe2048"}}, Namespaces: []nvmet.Namespace{namespace(1)}},
		},
		Ports: []nvmet.Port{
			{ID: 1, Address: "127.0.0.1", Service: "4420", Subsystems: all},
			{ID: 2, Address: "::1", Service: "4420", Subsystems: all},
		},
		Fakes: []nvmet.Fake{{Listen: silent, Mode: "silent"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tgt
}

func at(nqn, addr string) nvmeof.Target {
	return nvmeof.Target{NQN: nqn, Addr: netip.MustParseAddrPort(addr)}
}

// await waits for an event that matches, or until what it looks for is there.
func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for !there() {
		if _, ok := <-events; !ok {
			t.Fatalf("%s: not within the time", what)
		}
	}
}

func connections(t *testing.T, tgt *nvmet.Target) {
	f := sysfstest.Open(t)
	v4, v6 := at(open, "127.0.0.1:4420"), at(open, "[::1]:4420")
	for _, to := range []nvmeof.Target{v4, v6} {
		if err := nvmeof.Probe(t.Context(), to, nvmeof.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	name, err := nvmeof.Connect(nvmeof.Request{Target: v4, Host: us, Options: nvmeof.Steadfast()})
	if err != nil {
		t.Fatal(err)
	}
	second, err := nvmeof.Connect(nvmeof.Request{Target: v6, Host: us, Options: nvmeof.Options{Queues: 1, QueueSize: 32, CtrlLoss: time.Minute, FastIOFail: 5 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	for _, nsid := range []int{1, 7} {
		await(t, "the disk", func() bool { _, err := nvmeof.Disk(f, open, nsid); return err == nil })
	}
	await(t, "both ways to both", func() bool {
		s, _ := nvmeof.Find(f, open)
		return len(s.Controllers) == 2 && len(s.Controllers[0].Legs) == 2 && len(s.Controllers[1].Legs) == 2
	})
	s, ok := nvmeof.Find(f, open)
	if !ok || s.Live() != 2 || s.Type != "nvm" || len(s.Namespaces) != 2 {
		t.Fatalf("%+v", s)
	}
	c := s.Controllers[0]
	if c.Name != name || c.Target != v4 || c.Host != us || c.Type != "io" || c.CtrlLoss != "off" || c.FastIOFail != "off" ||
		c.ReconnectDelay != "2" || c.Source.String() != "127.0.0.1" || c.Legs[0].ANAState != "optimized" {
		t.Errorf("the first controller: %+v", c)
	}
	if c := s.Controllers[1]; c.Name != second || c.Target != v6 || c.CtrlLoss != "60" || c.FastIOFail != "5" {
		t.Errorf("the second controller: %+v", c)
	}
	disk, err := nvmeof.Disk(f, open, 7)
	if err != nil || disk.WWID != "uuid.11111111-2222-4333-8444-555555555555" || disk.Bytes != 16<<20 {
		t.Errorf("the disk: %+v, %v", disk, err)
	}
	if _, err := os.Stat("/dev/" + disk.Name); err != nil {
		t.Error(err)
	}
	if _, err := nvmeof.Disk(f, open, 2); err == nil {
		t.Error("there is a namespace 2")
	}
	got, ok := nvmeof.Adopt(f, v4, us)
	if !ok || got.Name != name {
		t.Errorf("to be adopted: %+v, %v", got, ok)
	}
	wantReason(t, nvmeof.Request{Target: v4, Host: us}, nvmeof.Exists)
	// The kernel lets a machine be one host only.
	wantReason(t, nvmeof.Request{Target: at(closed, "127.0.0.1:4420"), Host: nvmeof.Host{NQN: us.NQN, ID: "6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f6"}}, nvmeof.BadOption)

	if err := nvmeof.SetOwner("/", name, "stas"); err != nil {
		t.Fatal(err)
	}
	if c, err := nvmeof.ReadController(f, name); err != nil || c.Owner != "stas" {
		t.Errorf("owner: %q, %v", c.Owner, err)
	}
	if err := nvmeof.SetIOPolicy("/", s.Name, "round-robin"); err != nil {
		t.Error(err)
	}
	// One of several subsystems leaves the port: the next reconnect gets a status with DNR, and 6.12 gives the controller up.
	if err := tgt.Change(nvmet.Change{Do: "unlink", Port: 2, Subsystem: open}); err != nil {
		t.Fatal(err)
	}
	await(t, "the kernel gives the controller up", func() bool { _, ok := nvmeof.Adopt(f, v6, us); return !ok })
	if s, _ := nvmeof.Find(f, open); s.Live() != 1 || s.IOPolicy != "round-robin" {
		t.Errorf("the other way: %+v", s)
	}
	if err := nvmeof.Disconnect("/", name); err != nil {
		t.Fatal(err)
	}
	if err := nvmeof.Disconnect("/", name); err != nil {
		t.Errorf("once more: %v", err)
	}
	if _, err := os.Stat("/run/nvme/registry/" + name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is registered still: %v", err)
	}
	if _, ok := nvmeof.Find(f, open); ok {
		t.Error("the subsystem is there still")
	}
}

func wantReason(t *testing.T, r nvmeof.Request, want nvmeof.Reason) {
	t.Helper()
	name, err := nvmeof.Connect(r)
	var e *nvmeof.ConnectError
	if !errors.As(err, &e) {
		t.Errorf("%s: got %q, %v, want %q", r.Target, name, err, want)
		_ = nvmeof.Disconnect("/", name)
		return
	}
	t.Log(err)
	if e.Reason != want {
		t.Errorf("%s: got %q (errno %d), want %q", r.Target, e.Reason, e.Errno, want)
	}
	if strings.Contains(err.Error(), "DHHC") {
		t.Errorf("a secret: %v", err)
	}
}

func refusals(t *testing.T, tgt *nvmet.Target) {
	if err := tgt.Change(nvmet.Change{Do: "link", Port: 2, Subsystem: open}); err != nil {
		t.Fatal(err)
	}
	v4 := "127.0.0.1:4420"
	strange, unplugged := at(open, v4), at(open, v4)
	strange.HostAddr, unplugged.HostIface = netip.MustParseAddr("192.0.2.99"), "none0"
	for _, row := range []struct {
		name string
		r    nvmeof.Request
		want nvmeof.Reason
	}{
		{"nobody listens", nvmeof.Request{Target: at(open, "127.0.0.1:4421")}, nvmeof.Refused},
		{"there is no way", nvmeof.Request{Target: at(open, "192.0.2.1:4420")}, nvmeof.Unreachable},
		{"it accepts and is silent", nvmeof.Request{Target: at(open, silent)}, nvmeof.Silent},
		{"an unknown subsystem", nvmeof.Request{Target: at("nqn.2026-01.net.example:none", v4)}, nvmeof.NotFound},
		{"a subsystem for others", nvmeof.Request{Target: at(closed, v4)}, nvmeof.HostRefused},
		{"no secret", nvmeof.Request{Target: at(proved, v4)}, nvmeof.AuthRequired},
		{"a wrong secret", nvmeof.Request{Target: at(proved, v4), Secret: secrettest.Buffer(t, other)}, nvmeof.AuthFailed},
		{"the subsystem proves itself wrongly", nvmeof.Request{Target: at(mutual, v4), Secret: secrettest.Buffer(t, right), CtrlSecret: secrettest.Buffer(t, right)}, nvmeof.AuthFailed},
		{"a host address that is not here", nvmeof.Request{Target: strange}, nvmeof.NoSource},
		{"an interface that is not here", nvmeof.Request{Target: unplugged}, nvmeof.NoInterface},
		{"TLS without a handshake daemon", nvmeof.Request{Target: at(open, v4), Options: nvmeof.Options{TLS: true}}, nvmeof.NoHandshake},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.r.Host = us
			wantReason(t, row.r, row.want)
		})
	}
	for _, r := range []nvmeof.Request{
		{Target: at(proved, v4), Secret: secrettest.Buffer(t, right)},
		{Target: at(mutual, v4), Secret: secrettest.Buffer(t, right), CtrlSecret: secrettest.Buffer(t, other)},
		{Target: at(open, v4), Options: nvmeof.Options{HeaderDigest: true, DataDigest: true}},
	} {
		r.Host = us
		name, err := nvmeof.Connect(r)
		if err != nil {
			t.Errorf("%s: %v", r.Target, err)
			continue
		}
		if err := nvmeof.Disconnect("/", name); err != nil {
			t.Error(err)
		}
	}
}

func discovery(t *testing.T, tgt *nvmet.Target) {
	f := sysfstest.Open(t)
	d := &nvmeof.Discoverer{Request: nvmeof.Request{Host: us}, Referrals: true}
	asked := func() []string {
		t.Helper()
		found := d.Run(t.Context(), []nvmeof.Target{at(nvmeof.DiscoveryNQN, "127.0.0.1:4420")})
		if len(found) != 1 || found[0].Err != nil {
			t.Fatalf("%+v", found)
		}
		var names []string
		for _, e := range found[0].Log.Entries {
			names = append(names, e.Kind+" "+e.NQN+" "+e.Address+" "+e.Service)
		}
		slices.Sort(names)
		return names
	}
	want := []string{
		"discovery " + nvmeof.DiscoveryNQN + " 127.0.0.1 4420",
		"nvme " + mutual + " 127.0.0.1 4420", "nvme " + open + " 127.0.0.1 4420", "nvme " + proved + " 127.0.0.1 4420",
	}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := d.Wait(); err != nil {
		t.Error(err)
	}
	if list, err := nvmeof.Controllers(f); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
	// One that is kept says when the log changes.
	events, err := uevent.Subscribe(t.Context(), uevent.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	name, err := nvmeof.Connect(nvmeof.Request{Target: at(nvmeof.DiscoveryNQN, "127.0.0.1:4420"), Host: us, Lasting: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := nvmeof.DiscoveryLog(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := tgt.Change(nvmet.Change{Do: "unlink", Port: 1, Subsystem: open}); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Name() == name && e.Properties[nvmeof.AENProperty] == nvmeof.AENDiscoveryLog {
			break
		}
	}
	now, err := nvmeof.DiscoveryLog(name)
	if err != nil || now.Generation == first.Generation || len(now.Entries) != len(first.Entries)-1 {
		t.Errorf("generation %d with %d entries, then %d with %d: %v", first.Generation, len(first.Entries), now.Generation, len(now.Entries), err)
	}
	if c, err := nvmeof.ReadController(f, name); err != nil || c.Type != "discovery" || c.NQN != nvmeof.DiscoveryNQN {
		t.Errorf("%+v, %v", c, err)
	}
	if err := nvmeof.Disconnect("/", name); err != nil {
		t.Error(err)
	}
}
