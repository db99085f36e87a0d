package block

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"initd/hw/block/media"
)

// stage builds worlds by hand: a device a line, content beside it.
type stage struct{ w *World }

func newStage() stage { return stage{NewWorld()} }

func (s stage) seen(d Device) stage {
	if d.Size == 0 {
		d.Size = 1 << 20
	}
	s.w.Apply(Seen{Device: d})
	return s
}

// holds answers the open request for a device; the others stay to be asked again.
func (s stage) holds(name string, content media.Content) stage {
	s.w.Apply(Probed{Request: Request{Name: name, Generation: s.w.devices[name].wanted}, Content: content})
	return s
}

func (s stage) fails(name, why string) stage {
	s.w.Apply(Probed{Request: Request{Name: name, Generation: s.w.devices[name].wanted}, Failure: why})
	return s
}

func ext4(uuid, label string) media.Content {
	return media.Content{Signature: &media.Signature{Type: "ext4", Usage: media.Filesystem, UUID: uuid, Label: label}}
}

func member() media.Content {
	return media.Content{Signature: &media.Signature{Type: "linux_raid_member", Usage: media.RAID, UUID: "r", Label: "h:0"}}
}

func gpt(labels ...string) media.Content {
	table := &media.Table{Type: "gpt"}
	for i, label := range labels {
		table.Partitions = append(table.Partitions, media.Partition{
			Number: i + 1, Start: uint64(i+1) << 20, Size: 1 << 20, Label: label, UUID: "part-" + label,
		})
	}
	return media.Content{Table: table}
}

func disk(name string) Device { return Device{Name: name, Size: 1 << 30} }

func partition(on string, number int, holders ...string) Device {
	return Device{
		Name: fmt.Sprintf("%s%d", on, number), Disk: on, Partition: number, Start: uint64(number) << 20, Size: 1 << 20, Holders: holders,
	}
}

func mapped(name, dmName, uuid string, slaves ...string) Device {
	return Device{Name: name, Size: 1 << 20, DM: &DM{Name: dmName, UUID: uuid}, Slaves: slaves, Virtual: true}
}

func holding(d Device, holders ...string) Device {
	d.Holders = holders
	return d
}

func TestANameMeansOneDeviceOrThereIsAReason(t *testing.T) {
	for _, row := range []struct {
		name   string
		stage  stage
		ask    string
		claims Claims
		want   string // a kernel name, or a reason
	}{
		{"a file system by its UUID", newStage().seen(disk("vda")).holds("vda", ext4("u-1", "")), "uuid/u-1", nil, "vda"},
		{"in capital letters", newStage().seen(disk("vda")).holds("vda", ext4("abcd", "")), "uuid/ABCD", nil, "vda"},
		{"by its place in /dev", newStage().seen(disk("vda")), "/dev/vda", nil, "vda"},
		{"by the link that udev would make", newStage().seen(disk("vda")).holds("vda", ext4("u-1", "a b")), `/dev/disk/by-label/a\x20b`, nil, "vda"},
		{"by a label as a person writes it", newStage().seen(disk("vda")).holds("vda", ext4("u-1", "a b/c")), "label/a b/c", nil, "vda"},
		{"by a dm name", newStage().seen(mapped("dm-0", "tank0", "CRYPT-LUKS2-x-tank0", "vda")), "dev/mapper/tank0", nil, "dm-0"},
		{"by the name of a resource", newStage().seen(disk("vda")), "block/dev/vda", nil, "vda"},
		{"nothing of that kind", newStage(), "flavour/sweet", nil,
			"flavour/sweet: not a name of a block device; write one of uuid/…, label/…, partuuid/…, partlabel/…, id/…, path/…, diskseq/…, dev/…"},
		{"nothing there", newStage().seen(disk("vda")).holds("vda", ext4("u-1", "")), "uuid/u-2", nil, "uuid/u-2: no device answers"},
		{
			"nothing there yet, but some were not read",
			newStage().seen(disk("vda")).seen(disk("vdb")).seen(disk("vdc")).fails("vdb", "input/output error").
				holds("vdc", media.Content{Ambivalent: []string{"vfat", "ext4"}}),
			"uuid/u-2", nil,
			"uuid/u-2: no device answers; not read yet: /dev/vda; could not be read: /dev/vdb (input/output error); ambivalent: /dev/vdc (vfat and ext4)",
		},
		{"a name that needs no reading", newStage().seen(disk("vda")), "id/virtio-x", nil, "id/virtio-x: no device answers"},
		{
			"two partitions of one label",
			newStage().seen(disk("vda")).seen(partition("vda", 1)).seen(partition("vda", 2)).holds("vda", gpt("esp", "data")).
				seen(disk("vdb")).seen(partition("vdb", 1)).seen(partition("vdb", 2)).holds("vdb", gpt("esp2", "data")),
			"partlabel/data", nil, "partlabel/data: two devices answer: /dev/vda2, /dev/vdb2",
		},
		{
			"a partition by its label",
			newStage().seen(disk("vda")).seen(partition("vda", 1)).holds("vda", gpt("data 1")), "partlabel/data 1", nil, "vda1",
		},
		{
			"a table that the kernel has not read again",
			newStage().seen(disk("vda")).seen(func() Device { d := partition("vda", 1); d.Start = 512; return d }()).holds("vda", gpt("data")),
			"partlabel/data", nil, "partlabel/data: no device answers; not read yet: /dev/vda1",
		},
		{
			"a disk that an unfinished unit claims", newStage().seen(disk("vda")).holds("vda", ext4("u-1", "")), "uuid/u-1",
			Claims{"vda": "sed/drives/S1"}, "uuid/u-1: /dev/vda is claimed by sed/drives/S1, which is not finished",
		},
		{
			"a partition on a claimed disk (a shadow MBR)",
			newStage().seen(disk("vda")).seen(partition("vda", 1)).holds("vda", gpt("data")), "partlabel/data",
			Claims{"vda": "sed/drives/S1"}, "partlabel/data: /dev/vda1 is claimed by sed/drives/S1, which is not finished",
		},
		{
			"a dm device on a claimed disk", newStage().seen(holding(disk("vda"), "dm-0")).seen(mapped("dm-0", "x", "CRYPT-x", "vda")), "dev/mapper/x",
			Claims{"vda": "sed/drives/S1"}, "dev/mapper/x: /dev/dm-0 (x) is claimed by sed/drives/S1, which is not finished",
		},
		{
			"both paths of a multipath device, not yet assembled",
			newStage().seen(disk("sda")).holds("sda", ext4("u-1", "")).seen(disk("sdb")).holds("sdb", ext4("u-1", "")),
			"uuid/u-1", nil, "uuid/u-1: two devices answer: /dev/sda, /dev/sdb",
		},
		{
			"a multipath device above its legs",
			newStage().seen(holding(disk("sda"), "dm-0")).holds("sda", ext4("u-1", "")).seen(holding(disk("sdb"), "dm-0")).
				seen(mapped("dm-0", "mpatha", "mpath-3600", "sda", "sdb")).holds("dm-0", ext4("u-1", "")),
			"uuid/u-1", nil, "dm-0",
		},
		{
			"a leg whose multipath device was not read yet",
			newStage().seen(holding(disk("sda"), "dm-0")).holds("sda", ext4("u-1", "")).seen(mapped("dm-0", "mpatha", "mpath-3600", "sda")),
			"uuid/u-1", nil, "uuid/u-1: /dev/sda is below /dev/dm-0 (mpatha)",
		},
		{
			"a disk below something that was not seen yet", newStage().seen(holding(disk("sda"), "dm-0")), "dev/sda", nil,
			"dev/sda: /dev/sda is below /dev/dm-0, of which nothing is known yet",
		},
		{
			"a leg that was read before its multipath device came",
			newStage().seen(disk("sda")).holds("sda", ext4("u-1", "")).seen(mapped("dm-0", "mpatha", "mpath-3600", "sda")),
			"uuid/u-1", nil, "uuid/u-1: /dev/sda is below /dev/dm-0 (mpatha)",
		},
		{
			"a partition of a leg, and of the multipath device",
			newStage().seen(holding(disk("sda"), "dm-0")).holds("sda", gpt("data")).seen(partition("sda", 1)).
				seen(mapped("dm-0", "mpatha", "mpath-3600", "sda")).holds("dm-0", gpt("data")).
				seen(mapped("dm-1", "mpatha-part1", "part1-mpath-3600", "dm-0")),
			"partlabel/data", nil, "dm-1",
		},
		{
			"a member of an array that is not assembled",
			newStage().seen(disk("vda")).seen(partition("vda", 1)).holds("vda", gpt("data")).holds("vda1", member()),
			"partlabel/data", nil, "partlabel/data: /dev/vda1 is a member of an array that is not assembled",
		},
		{
			"a member of an array that runs",
			newStage().seen(disk("vda")).seen(partition("vda", 1, "md0")).holds("vda", gpt("data")).
				seen(Device{Name: "md0", MD: &MD{State: "clean"}, Slaves: []string{"vda1"}}),
			"partlabel/data", nil, "partlabel/data: /dev/vda1 is below /dev/md0",
		},
		{
			"an array by its own name",
			newStage().seen(holding(disk("vda"), "md0")).holds("vda", member()).
				seen(Device{Name: "md0", MD: &MD{State: "clean"}, Slaves: []string{"vda"}}),
			"id/md-name-h:0", nil, "md0",
		},
		{"an array that is not started", newStage().seen(Device{Name: "md0", MD: &MD{State: "inactive"}}), "dev/md0", nil,
			"dev/md0: /dev/md0 is an array that is not started (inactive)"},
		{
			"an encrypted volume that is open stays what its name means",
			newStage().seen(holding(disk("vda"), "dm-0")).
				holds("vda", media.Content{Signature: &media.Signature{Type: "crypto_LUKS", Usage: media.Crypto, UUID: "l-1"}}).
				seen(mapped("dm-0", "tank0", "CRYPT-LUKS2-l1-tank0", "vda")),
			"uuid/l-1", nil, "vda",
		},
		{
			"a suspended dm device", newStage().seen(func() Device { d := mapped("dm-0", "x", "x"); d.DM.Suspended = true; return d }()),
			"dev/mapper/x", nil, "dev/mapper/x: /dev/dm-0 (x) is suspended",
		},
		{"a loop device without a file", newStage().seen(disk("loop0")), "dev/loop0", nil, "dev/loop0: /dev/loop0 is a loop device without a file"},
		{
			"a hidden NVMe path", newStage().seen(func() Device { d := disk("nvme0c0n1"); d.Hidden = true; return d }()),
			"dev/nvme0c0n1", nil, "dev/nvme0c0n1: no device answers",
		},
		{
			"LVM's inner volumes have no names by content",
			newStage().seen(mapped("dm-0", "vg-pool_tdata", "LVM-"+strings.Repeat("a", 64)+"-tdata", "vda")).holds("dm-0", ext4("u-1", "")),
			"uuid/u-1", nil, "uuid/u-1: no device answers",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, reason := row.stage.w.Resolve(row.ask, row.claims)
			got := d.Name
			if !reason.OK() {
				got = reason.Text
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			if reason.OK() != (d.Name != "") || reason.OK() != (reason.Text == "") {
				t.Errorf("device %q with reason %+v", d.Name, reason)
			}
		})
	}
}

func TestUdevsWordIsWaitedFor(t *testing.T) {
	w := NewWorld()
	w.Apply(Seen{Device: disk("vda"), NotReady: "udevd has not processed it"})
	if got := w.ToProbe(); got != nil {
		t.Errorf("%v is to be probed before udevd is through with it", got)
	}
	if _, reason := w.Resolve("dev/vda", nil); reason.Code != NotReady || reason.Text != "dev/vda: /dev/vda: udevd has not processed it" {
		t.Errorf("%+v", reason)
	}
	w.Apply(Seen{Device: disk("vda")})
	if _, reason := w.Resolve("dev/vda", nil); !reason.OK() {
		t.Errorf("%+v", reason)
	}
}

func TestWhatWasReadHoldsUntilItIsReadAgainOrIsAnotherDisk(t *testing.T) {
	w := NewWorld()
	answers := func(name string) bool { _, reason := w.Resolve(name, nil); return reason.OK() }
	ask := func() Request {
		t.Helper()
		requests := w.ToProbe()
		if len(requests) != 1 {
			t.Fatalf("requests %v, want one", requests)
		}
		return requests[0]
	}
	w.Apply(Seen{Device: disk("vda")})
	first := ask()
	if again := w.ToProbe(); again != nil {
		t.Errorf("asked twice: %v", again)
	}
	w.Apply(Probed{Request: first, Content: ext4("one", "")})
	if !answers("uuid/one") {
		t.Error("what was read is not known")
	}

	w.Apply(Seen{Device: disk("vda")}) // a change event, say because somebody closed it after writing
	second := ask()
	if !answers("uuid/one") {
		t.Error("a change event alone made the name go")
	}
	w.Apply(Probed{Request: second, Content: ext4("two", "")})
	w.Apply(Probed{Request: first, Content: ext4("one", "")})
	if answers("uuid/one") || !answers("uuid/two") {
		t.Error("an answer that was overtaken was believed")
	}

	w.Apply(Stale{Name: "vda"})
	if answers("uuid/two") {
		t.Error("after an unlock the old content still has a name")
	}
	w.Apply(Probed{Request: second, Content: ext4("two", "")})
	if answers("uuid/two") {
		t.Error("an answer from before the unlock was believed")
	}
	third := ask()
	w.Apply(Probed{Request: third, Content: ext4("three", "")})

	other := disk("vda")
	other.DiskSeq = 7
	w.Apply(Seen{Device: other})
	if answers("uuid/three") {
		t.Error("another disk has the old one's name")
	}
	w.Apply(Probed{Request: third, Content: ext4("three", "")})
	if answers("uuid/three") {
		t.Error("an answer about the old disk was believed of the new one")
	}
	w.Apply(Gone{Name: "vda"})
	w.Apply(Probed{Request: ask2(other), Content: ext4("four", "")})
	if len(w.Devices()) != 0 {
		t.Error("a removed disk came back by a late answer")
	}
}

func ask2(d Device) Request { return Request{Name: d.Name, Generation: 1 << 30} }

func TestAfterAnOverflowWhatIsNotThereIsGone(t *testing.T) {
	s := newStage().seen(disk("vda")).holds("vda", ext4("u-1", "")).seen(disk("vdb"))
	s.w.Apply(Enumerated{Devices: []Seen{{Device: disk("vda")}, {Device: disk("vdc")}}})
	var got []string
	for _, d := range s.w.Devices() {
		got = append(got, d.Name)
	}
	if diff := cmp.Diff([]string{"vda", "vdc"}, got); diff != "" {
		t.Error(diff)
	}
	if _, reason := s.w.Resolve("uuid/u-1", nil); !reason.OK() {
		t.Errorf("a device that stayed lost its name: %s", reason.Text)
	}
}

func TestWhatNobodyWroteToIsNotReadAgain(t *testing.T) {
	s := newStage().seen(disk("vda")).holds("vda", ext4("u-1", "")).seen(disk("vdb"))
	other := disk("vdb")
	other.DiskSeq++
	for _, tt := range []struct {
		name string
		all  Enumerated
		want []string
	}{
		{"the same as before", Enumerated{Unchanged: true, Devices: []Seen{{Device: disk("vda")}, {Device: disk("vdb")}}}, nil},
		{"another disk in its place, and a new one", Enumerated{Unchanged: true, Devices: []Seen{{Device: disk("vda")}, {Device: other}, {Device: disk("vdc")}}}, []string{"vdb", "vdc"}},
		{"nobody knows", Enumerated{Devices: []Seen{{Device: disk("vda")}, {Device: other}, {Device: disk("vdc")}}}, []string{"vda", "vdb", "vdc"}},
	} {
		s.w.ToProbe() // those before are under way
		s.w.Apply(tt.all)
		var got []string
		for _, r := range s.w.ToProbe() {
			got = append(got, r.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: to be read (-want +got):\n%s", tt.name, diff)
		}
		if _, reason := s.w.Resolve("uuid/u-1", nil); !reason.OK() {
			t.Errorf("%s: a device that stayed lost its name: %s", tt.name, reason.Text)
		}
	}
}

func TestLegsAndWhatWouldBlockAreNotRead(t *testing.T) {
	suspended := mapped("dm-1", "s", "s")
	suspended.DM.Suspended = true
	s := newStage().seen(holding(disk("sda"), "dm-0")).seen(mapped("dm-0", "m", "mpath-3", "sda")).seen(suspended).
		seen(disk("loop0")).seen(disk("ram0")).seen(Device{Name: "md0", MD: &MD{State: "inactive"}})
	var got []string
	for _, request := range s.w.ToProbe() {
		got = append(got, request.Node)
	}
	if diff := cmp.Diff([]string{"/dev/dm-0"}, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever happens in whatever order, a name never means a device that is claimed, covered or one of two.
func TestNoOrderOfEventsMakesANameMeanTheWrongDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWorld()
		names := []string{"sda", "sdb", "sdc", "dm-0"}
		name := rapid.SampledFrom(names)
		var asked []Request
		claims := Claims{}
		var legs []string
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := name.Draw(t, "device")
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 7:
				legs = rapid.SampledFrom([][]string{nil, {"sda"}, {"sda", "sdb"}}).Draw(t, "legs")
			case 0, 1:
				d := disk(n)
				d.DiskSeq = uint64(rapid.IntRange(1, 2).Draw(t, "seq"))
				// What a reading says of the stack may be old by the time the next one comes, but is true when it is made.
				if n == "dm-0" {
					d = mapped(n, "m", "mpath-3", legs...)
				} else if slices.Contains(legs, n) {
					d.Holders = []string{"dm-0"}
				}
				w.Apply(Seen{Device: d})
			case 2:
				w.Apply(Gone{Name: n})
			case 3:
				asked = append(asked, w.ToProbe()...)
			case 4:
				if len(asked) > 0 {
					i := rapid.IntRange(0, len(asked)-1).Draw(t, "answer")
					w.Apply(Probed{Request: asked[i], Content: ext4(rapid.SampledFrom([]string{"u-1", "u-2"}).Draw(t, "uuid"), "")})
				}
			case 5:
				w.Apply(Stale{Name: n})
			case 6:
				if _, ok := claims[n]; ok {
					delete(claims, n)
				} else {
					claims[n] = "unit"
				}
			}
			for _, ask := range []string{"uuid/u-1", "uuid/u-2", "dev/sda", "dev/mapper/m"} {
				d, reason := w.Resolve(ask, claims)
				if reason.OK() == (d.Name == "") || reason.OK() == (reason.Text != "") {
					t.Fatalf("%s: %+v and %+v", ask, d, reason)
				}
				if !reason.OK() {
					continue
				}
				if who, ok := claims[d.Name]; ok {
					t.Fatalf("%s means %s, which %s claims", ask, d, who)
				}
				if above, there := w.Device("dm-0"); len(d.Holders) > 0 || there && slices.Contains(above.Slaves, d.Name) {
					t.Fatalf("%s means %s, which is a leg", ask, d)
				}
				for _, other := range w.Devices() {
					if other.Name != d.Name && len(other.Holders) == 0 && slices.Contains(w.Names(other.Name), ask) {
						t.Fatalf("%s means %s, but %s answers too", ask, d, other)
					}
				}
			}
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, name := range []string{"uuid/x", "/dev/disk/by-label/a", "block/dev/mapper/x", "dev/", "//"} {
		f.Add(name)
	}
	w := newStage().seen(disk("vda")).holds("vda", ext4("u-1", "l")).w
	f.Fuzz(func(t *testing.T, name string) {
		if d, reason := w.Resolve(name, nil); reason.OK() && d.Name != "vda" {
			t.Errorf("%q means %s", name, d)
		}
	})
}

func TestADeviceThatCouldNotBeReadIsReadAgain(t *testing.T) {
	w := NewWorld()
	w.Apply(Seen{Device: Device{Name: "vda", Size: 1 << 20}})
	list := w.ToProbe()
	if len(list) != 1 {
		t.Fatalf("asked to read %v, want vda", list)
	}
	w.Apply(Reread{Name: "vda"})
	if more := w.ToProbe(); len(more) != 0 {
		t.Errorf("before the first answer: asked to read %v, want nothing", more)
	}
	w.Apply(Probed{Request: list[0], Failure: "no answer"})
	w.Apply(Reread{Name: "gone"})
	w.Apply(Reread{Name: "vda"})
	if more := w.ToProbe(); len(more) != 1 || more[0].Generation <= list[0].Generation {
		t.Errorf("after a failure: asked to read %v, want vda anew", more)
	}
}
