package bench

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	breport "initd/boot/report"
	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// 16 subsystems of the kernel's own target, in one machine over loopback: `initd nvme connect --discover` against nvme-cli's
// connect-all on the same log, and both against what the kernel takes for the connections alone.
func BenchmarkNVMeConnect(b *testing.B) {
	const host = "6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/guest").GoProgram("/usr/bin/connector", "./qemu-tests/guest/connector").
		File("/usr/bin/initd", vm.Shipped(b, "initd"), 0o755).Program("nvme").Modules("nvmet-tcp", "nvme-tcp").
		Bytes("/etc/nvme/hostnqn", []byte("nqn.2014-08.org.nvmexpress:uuid:"+host+"\n"), 0o644).Bytes("/etc/nvme/hostid", []byte(host+"\n"), 0o644).
		JSON(plan.Path, plan.Plan{Tests: []plan.Test{{Package: "nvme", Program: "/usr/bin/connector", Dir: "/", Args: []string{"-count", "16", "-rounds", "5"}}}})
	machine := vm.New(b, vm.Name("nvme"), vm.Memory(1024)).Initramfs(image.Write("nvme")).Start()
	machine.WaitEvent("all rounds are over", vm.Is("end"), benchGuard)
	took := map[string]times{}
	for _, e := range machine.Events() {
		switch {
		case vm.Is("test", "package", "nvme")(e) && e.Field("exit") != "0":
			b.Errorf("the connector ended with status %s", e.Field("exit"))
		case vm.Is("output", "package", "nvme")(e):
			var who string
			var d time.Duration
			if n, _ := fmt.Sscanf(e.Field("line"), "%s took %d ns", &who, &d); n == 2 {
				took[who] = append(took[who], d)
			} else {
				b.Log(e.Field("line"))
			}
		}
	}
	if len(took["ours"]) == 0 || len(took["theirs"]) == 0 || len(took["bare"]) == 0 {
		b.Fatal("nothing was measured")
	}
	show(b, "16 NVMe connections, with discovery; theirs: nvme-cli's connect-all",
		noSlower("initd nvme connect --discover", took["ours"], took["theirs"], 1),
		compared("bare writes to the kernel, against ours", took["bare"], took["ours"]),
		compared("bare writes to the kernel, against theirs", took["bare"], took["theirs"]))
}

// How boots grow: 16 subsystems on two paths each, the same with a portal that is silent and one that is nobody's among them, and 64. Measured is
// from the first attempt to the last good subsystem that is up, by the store's own clock.
func BenchmarkNVMeBoot(b *testing.B) {
	const many = 64
	wires := [2]*vm.Wire{vm.NewWire(b, "first"), vm.NewWire(b, "second")}
	addresses := [2]string{"192.0.2.40", "198.51.100.40"}
	macs := [2]string{"52:54:00:00:03:01", "52:54:00:00:03:02"}
	own := [2]string{"52:54:00:00:04:01", "52:54:00:00:04:02"}
	target := nvmet.Config{Fakes: []nvmet.Fake{{Listen: addresses[0] + ":4998", Mode: "silent"}}}
	peer := config.Config{NVMet: &target}
	for n := range 2 {
		peer.Links = append(peer.Links, network.Link{MAC: macs[n], Addresses: []string{addresses[n] + "/24"}})
		target.Ports = append(target.Ports, nvmet.Port{ID: n + 1, Address: addresses[n], Service: "4420"})
	}
	for i := range many {
		nqn := fmt.Sprintf("nqn.2026-01.net.example:f%02d", i)
		target.Subsystems = append(target.Subsystems, nvmet.Subsystem{NQN: nqn, Namespaces: []nvmet.Namespace{{ID: 1, FileMiB: 1}}})
		for n := range target.Ports {
			target.Ports[n].Subsystems = append(target.Ports[n].Subsystems, nqn)
		}
	}
	image := vm.NewImage(b).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net", "nvmet-tcp").JSON(config.Path, peer).Write("peer")
	vm.New(b, vm.Name("peer"), vm.Memory(768)).Initramfs(image).Wire(wires[0], macs[0]).Wire(wires[1], macs[1]).Start().
		WaitEvent("the target is there", vm.Is("ready"), vm.Guard)

	boot := func(name string, count int, more string) (time.Duration, int) {
		b.Helper()
		var lines strings.Builder
		for i := range count {
			fmt.Fprintf(&lines, "    - {name: f%02d, subsystem: \"nqn.2026-01.net.example:f%02d\", paths: [\"tcp://%s:4420\", \"tcp://%s:4420\"], min-paths: 2}\n", i, i, addresses[0], addresses[1])
		}
		appliance := "apiVersion: initd/v1\nname: store\nnetwork:\n  links:\n" +
			fmt.Sprintf("    - {name: first, match: {mac: %q}, addresses: [192.0.2.17/24]}\n    - {name: second, match: {mac: %q}, addresses: [198.51.100.17/24]}\n", own[0], own[1]) +
			"services:\n" + room.HandsService + "image:\n  files: [{from: " + vm.Build(b, "./qemu-tests/guest/hands") + ", to: /usr/bin/hands, mode: \"0755\"}]\n" +
			"fabrics:\n  nvme:\n" + lines.String() + more
		store := vm.New(b, vm.Name(name), vm.Memory(1024)).Initramfs(shippedImage(b, appliance)).Wire(wires[0], own[0]).Wire(wires[1], own[1]).
			Append("initd.events=/dev/ttyS1").Start()
		for i := range count {
			store.WaitEvent("it is up", room.Unit(fmt.Sprintf("nvme/f%02d", i), "done"), benchGuard)
		}
		store.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
		from, to := time.Duration(0), time.Duration(0)
		for _, e := range store.Events() {
			if e.Field("seq") == "" || !strings.HasPrefix(e.Field("unit"), "nvme/f") {
				continue
			}
			var x breport.Event
			if err := e.Decode(&x); err != nil {
				b.Fatal(err)
			}
			switch {
			case x.Kind == breport.AttemptStarted && x.Op == breport.Apply && from == 0:
				from = x.At
			case x.Kind == breport.UnitChanged && x.State == breport.Done:
				to = x.At
			}
		}
		used := usedMemory(b, room.Hand(b, store, "read", "/proc/meminfo", "").Field("text"))
		store.Kill()
		return to - from, used
	}
	well, small := boot("well", 16, "")
	hurt, _ := boot("dead", 16, "    - {name: silent, subsystem: \"nqn.2026-01.net.example:f00\", paths: [\"tcp://"+addresses[0]+":4998\"]}\n"+
		"    - {name: nobody, subsystem: \"nqn.2026-01.net.example:f00\", paths: [\"tcp://192.0.2.99:4420\"]}\n")
	big, large := boot("many", many, "")
	show(b, "NVMe subsystems on two paths each at a boot; theirs: 16 of them, all well",
		below("16, by how much a silent and a dead portal among them hold them up", max(0, hurt-well).Seconds(), 2, "s"),
		noSlower("16, with a silent and a dead portal among them", times{hurt}, times{well}, float64(well+2*time.Second)/float64(well)),
		noSlower("64, per subsystem", times{big / many}, times{well / 16}, 1.5),
		row{name: "memory in use, MiB", ours: fmt.Sprintf("64: %d", large), theirs: fmt.Sprintf("16: %d", small)})
}

// usedMemory of /proc/meminfo, in MiB.
func usedMemory(b *testing.B, text string) int {
	b.Helper()
	kib := map[string]int{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 2 {
			kib[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	if kib["MemTotal:"] == 0 || kib["MemAvailable:"] == 0 {
		b.Fatalf("no memory in %q", text)
	}
	return (kib["MemTotal:"] - kib["MemAvailable:"]) >> 10
}
