package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// What the demo's appliance has besides the first scenario's: a second network, a volume over iSCSI and one over NVMe/TCP, each on two paths, the templates
// of machines, and a worker of jobs.
const (
	demoLink = `network:
  links:
    - {name: second, match: {mac: "` + storeMACB + `"}, addresses: [198.51.100.17/24]}
`
	demoMounts = `fabrics:
  iscsi:
    - {name: archive, target: "iqn.2026-01.net.example:archive", portals: [` + targetA + `, ` + targetB + `], luns: [{lun: 0, name: disk}], min-paths: 2}
  nvme:
    - {name: flash, subsystem: "nqn.2026-01.net.example:flash", paths: ["tcp://` + targetA + `:4420", "tcp://` + targetB + `:4420"], min-paths: 2}
jobs: {v2v: {workers: 1, state: /srv/tank0/v2v}}
mounts:
  - {what: iscsi/archive/disk, where: /srv/archive, type: ext4}
  - {what: nvme/flash/1, where: /srv/flash, type: ext4}
  - {what: label/templates, where: /srv/templates, type: ext4}
`
)

// The demo: the appliance of the first scenario boots beside its key servers, with two volumes of a target machine on two paths each; a template is converted
// and deployed to a LUN; and all of it is taken down. It leaves out/demo/report.json, boot.svg and console.log, and prints what happened.
func TestDemo(t *testing.T) {
	s := wellSite(t, room.KMSAV4, room.KMSBV4, room.StoreV4)
	s.Appliance = replace(s.Appliance, "network:\n  links:\n", demoLink, "mounts:\n", demoMounts)
	s.Appliance = replace(s.Appliance, "services:\n", "services:\n"+room.HandsService)
	s.AddHands()
	s.Over = append(s.Over, func(o *vm.Image) {
		o.Bytes("/etc/nvme/hostnqn", []byte(nvmeHost+"\n"), 0o644)
		o.Bytes("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName="+initiator+"\n"), 0o644)
	})
	second := vm.NewWire(t, "second")
	disks := append(wellDisks(s), demoTemplates(t))
	startDemoPeer(s, second)
	store := s.NewStore(disks...).Wire(second, storeMACB).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	for _, id := range []string{"service/redis", "service/hands", "service/v2v-worker"} {
		store.WaitEvent(id+" is ready", room.Unit(id, "done"), vm.Guard)
	}
	story := tellStory(t, store)
	up := foldOf(t, store)
	store.CtrlAltDel()
	store.Exited(vm.Guard)

	dir := filepath.Join(vm.Root(t), "out", "demo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := foldOf(t, store)
	write := func(name string, fill func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := fill(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("report.json", func(b *bytes.Buffer) error { return r.JSON(b) })
	write("boot.svg", func(b *bytes.Buffer) error { return up.Plot(b, 0) })
	write("console.log", func(b *bytes.Buffer) error {
		_, err := b.WriteString(strings.Join(store.Console().Lines(), "\n") + "\n")
		return err
	})
	var text bytes.Buffer
	if err := up.Status(&text, breport.Style{}); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\n%s\n%sout/demo/report.json  the report\nout/demo/boot.svg     the timeline\nout/demo/console.log  what the console showed\n", &text, story)
	if r.Ready == 0 {
		t.Error("the report does not say that the boot was ready")
	}
}

// demoTemplates is a disk with a template: an OVA of a small machine, whose disk has some text and a program.
func demoTemplates(t *testing.T) *vm.Disk {
	content, templates := t.TempDir(), t.TempDir()
	if err := os.CopyFS(content, os.DirFS(filepath.Join(vm.Root(t), "docs"))); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(vm.Shipped(t, "init"))
	if err == nil {
		err = os.WriteFile(filepath.Join(content, "init"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	disk := vm.NewDisk(t, "template", 16*vm.MiB, vm.GPT{{Label: "root", Size: 14 * vm.MiB, Content: vm.Ext4{Label: "root", Dir: content}}})
	writeOVA(t, disk.Path, filepath.Join(templates, "template.ova"))
	return vm.NewDisk(t, "templates", 16*vm.MiB, vm.Ext4{Label: "templates", Dir: templates})
}

// startDemoPeer boots the key servers with the targets beside them, on both networks.
func startDemoPeer(s *room.Room, second *vm.Wire) {
	archive, flash := vm.NewDisk(s.T, "archive", 32*vm.MiB, vm.Ext4{Label: "archive"}), vm.NewDisk(s.T, "flash", 32*vm.MiB, vm.Ext4{Label: "flash"})
	s.Peer.Links[0].Addresses = append(s.Peer.Links[0].Addresses, targetA+"/24")
	s.Peer.Links = append(s.Peer.Links, network.Link{MAC: targetMACB, Addresses: []string{targetB + "/24"}})
	s.Peer.LIO = &lio.Config{Targets: []lio.Target{
		{IQN: iqn("archive"), Portals: []string{targetA + ":3260", targetB + ":3260"}, LUNs: []lio.LUN{{Number: 0, Device: "/dev/vda"}}},
		{IQN: iqn("vm-17"), Portals: []string{targetA + ":3260"}, LUNs: []lio.LUN{{Number: 0, MiB: 24}}},
	}}
	s.Peer.NVMet = &nvmet.Config{
		Subsystems: []nvmet.Subsystem{{NQN: nqn("flash"), Serial: "flash", Namespaces: []nvmet.Namespace{{ID: 1, Device: "serial:flash", UUID: "11111111-2222-4333-8444-555555555555"}}}},
		Ports:      []nvmet.Port{{ID: 1, Address: targetA, Service: "4420", Subsystems: []string{nqn("flash")}}, {ID: 2, Address: targetB, Service: "4420", Subsystems: []string{nqn("flash")}}},
	}
	image := vm.NewImage(s.T).GoProgram("/init", "./qemu-tests/peer").
		Modules("virtio_net", "virtio_blk", "nvmet-tcp", "target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod").
		JSON(config.Path, s.Peer).Write("peer")
	s.PeerVM = vm.New(s.T, vm.Name("peer"), vm.Memory(512)).Initramfs(image).Disk(archive, flash).Wire(s.Wire, room.PeerMAC).Wire(second, targetMACB).Start()
	s.PeerVM.WaitEvent("servers and targets listen", vm.Is("ready"), vm.Guard)
}

// tellStory does on the store what its administrator would, and gives what that printed.
func tellStory(t *testing.T, store *vm.VM) string {
	var b strings.Builder
	for _, line := range []string{
		"initd iscsi discover " + targetA,
		"initd iscsi list",
		"initd nvme discover " + targetA + ":4420",
		"initd nvme list",
		"v2v info /srv/templates/template.ova",
		"v2v convert --verify -O qcow2 -o compress=zstd /srv/templates/template.ova /srv/flash/template.qcow2",
		"v2v compare /srv/templates/template.ova /srv/flash/template.qcow2",
		"v2v jobs submit deploy --dir /srv/tank0/v2v/queue --id vm-17 --machine vm-17 --by-path ip-" + targetA + ":3260-iscsi-" + iqn("vm-17") + "-lun-0 --follow /srv/templates/template.ova",
		"v2v jobs show --dir /srv/tank0/v2v/queue vm-17",
	} {
		program, args, _ := strings.Cut(line, " ")
		e := room.Hand(t, store, "run", "/usr/bin/"+program, args)
		fmt.Fprintf(&b, "$ %s\n%s\n", line, e.Field("text"))
		if e.Field("status") != "0" {
			t.Errorf("%s: status %s: %s", line, e.Field("status"), e.Field("text"))
		}
	}
	return b.String()
}

// foldOf folds what a machine told by its event port.
func foldOf(t *testing.T, m *vm.VM) *breport.Report {
	t.Helper()
	var events []breport.Event
	for _, e := range m.Events() {
		var x breport.Event
		if err := e.Decode(&x); err == nil && x.Seq > 0 {
			events = append(events, x)
		}
	}
	return breport.Fold(events)
}
