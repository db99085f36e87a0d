package scenario

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
	"initd/v2v/image/imagetest"
)

// A machine's template is an OVA with a streamOptimized disk. The store, an appliance with a worker of jobs, deploys it to an iSCSI LUN; the new machine
// boots from that LUN.
//
//   - The worker runs as the appliance starts it, and is killed in the middle. The service starts again, the job goes on where its mark is, and in the
//     end the LUN holds the template, byte by byte, and the store has no session left.
//   - The new machine has no disk, and nothing from outside: its network card's own program asks DHCP where the disk is, logs in, and starts the boot
//     record of the LUN; syslinux reads kernel and initramfs from there; initd finds the disk by the table that the program left (iBFT), logs in by
//     itself, and hands over to the root on it.
func TestATemplateBecomesAMachine(t *testing.T) {
	const target, machineMAC = "vm-17", "52:54:00:00:01:17"
	s := newISCSIRoom(t)
	s.Appliance = "apiVersion: initd/v1\nname: vm-17\nfirmware: use\nmounts:\n  - {what: label/vm-root, where: /, type: ext4}\n"
	template := vm.NewDisk(t, "template", 72*vm.MiB, vm.Bootable{
		Kernel: vm.KernelFile(t, "vmlinuz"), Initramfs: s.Image(), Append: "console=ttyS0 panic=-1 oops=panic initd.events=/dev/ttyS1",
		Boot: 48 * vm.MiB, Root: 16 * vm.MiB, Content: vm.Ext4{Label: "vm-root", Dir: markerRoot(t)},
	})
	data := t.TempDir()
	writeOVA(t, template.Path, filepath.Join(data, "template.ova"))

	lun := vm.NewDisk(t, "lun", 80*vm.MiB, vm.Bytes(bytes.Repeat([]byte("what was here before "), 4<<20))[:80*vm.MiB])
	s.targets.Targets = []lio.Target{{IQN: iqn(target), Portals: []string{targetA + ":3260"}, LUNs: []lio.LUN{{Number: 0, Device: "/dev/vda"}}}}
	s.Peer.DHCP = []dhcp.Config{{
		Link: room.PeerMAC, Server: netip.MustParseAddr(targetA), Prefix: netip.MustParsePrefix("192.0.2.0/24"), First: netip.MustParseAddr("192.0.2.100"),
		Count: 4, Lease: 3600, RootPath: "iscsi:" + targetA + "::3260:0:" + iqn(target),
	}}
	s.Appliance = twoNetworks
	s.with("mounts:\n  - {what: label/data, where: /srv/data, type: ext4}\njobs: {v2v: {workers: 1, state: /srv/data/v2v}}\n")
	s.startTargets(lun)
	s.AddHands()
	store := s.NewStore(vm.NewDisk(t, "data", 128*vm.MiB, vm.Ext4{Label: "data", Dir: data})).Wire(s.second, storeMACB).Start()
	store.WaitEvent("the worker runs", room.Unit("service/v2v-worker", "done"), vm.Guard)
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)

	jobs := func(words ...string) string {
		t.Helper()
		e := room.Hand(t, store, "run", "/usr/bin/v2v", "jobs "+strings.Join(words, " ")+" --dir /srv/data/v2v/queue")
		if e.Field("status") != "0" {
			t.Fatalf("v2v jobs %s: status %s: %s", words[0], e.Field("status"), e.Field("text"))
		}
		return e.Field("text")
	}
	jobs("submit deploy --id vm-17 --machine vm-17 --state /srv/data/v2v --rate 4M --mark-every 2M --initiator", initiator,
		"--by-path ip-"+targetA+":3260-iscsi-"+iqn(target)+"-lun-0 /srv/data/template.ova")
	room.Hand(t, store, "until", "/usr/bin/v2v jobs follow --json --dir /srv/data/v2v/queue vm-17", `"phase":"copy","done":([5-9]|[1-9][0-9])[0-9]{6}\b`)
	room.Hand(t, store, "kill-running", "v2v worker", "")
	t.Log(jobs("follow", "vm-17"))
	shown := jobs("show", "--json", "vm-17")
	for _, want := range []string{`"outcome":"lost"`, `"state":"done"`, `"verified":true`, `"host":"store"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %s in %s", want, shown)
		}
	}
	if strings.Contains(shown, `"resumed":0`) || !strings.Contains(shown, `"resumed":`) {
		t.Errorf("the second attempt began anew: %s", shown)
	}
	if list := s.sessions(); len(list) != 0 {
		t.Errorf("sessions are left: %+v", list)
	}
	want, err := os.ReadFile(template.Path)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Begins(t, lun.Path, want)
	store.CtrlAltDel()
	store.Exited(vm.Guard)
	room.NothingLeft(t, store)

	machine := vm.New(t, vm.Name("machine"), vm.Memory(768), vm.Firmware()).Wire(s.Wire, machineMAC).Start()
	machine.WaitEvent("it logs in by what the boot program left", room.Unit("iscsi/ibft-0", "done"), vm.Guard)
	machine.WaitEvent("its root is mounted", room.Unit("mount/", "done"), vm.Guard)
	machine.Console().WaitFor("bench: marker, 0 mounted", vm.Guard)
	if exit := machine.Exited(vm.Guard); exit.Reason != "guest-shutdown" {
		t.Errorf("the machine ended with %v, want its root's own power-off", exit)
	}
}

// writeOVA makes an appliance as VMware exports it, of one disk: description, manifest, streamOptimized VMDK.
func writeOVA(t *testing.T, raw, to string) {
	t.Helper()
	info, err := os.Stat(raw)
	if err != nil {
		t.Fatal(err)
	}
	vmdk := filepath.Join(t.TempDir(), "disk1.vmdk")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img (Debian package qemu-utils): %v: %s", err, out)
	}
	disk, err := os.ReadFile(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	description := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="%d"/></References>
<DiskSection><Info>disks</Info><Disk ovf:capacity="%d" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
</Envelope>`, len(disk), info.Size())
	manifest := fmt.Sprintf("SHA256(vm.ovf)= %x\nSHA256(disk1.vmdk)= %x\n", sha256.Sum256([]byte(description)), sha256.Sum256(disk))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		content []byte
	}{{"vm.ovf", []byte(description)}, {"vm.mf", []byte(manifest)}, {"disk1.vmdk", disk}} {
		err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.content)), Format: tar.FormatUSTAR})
		if err == nil {
			_, err = w.Write(f.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
