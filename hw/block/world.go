package block

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"initd/hw/block/media"
)

// World is what is known of all block devices: what sysfs shows, and what was read from their media. It is pure: it changes only by
// Apply, asks nobody and waits for nothing. It is not safe for concurrent use.
//
// Its keeper feeds it like this: on an event of the block subsystem it calls Read and applies Seen or, on remove, Gone; after an
// overflow it calls Scan and applies Enumerated; after every Apply it takes ToProbe, runs media.ProbeDevice for each in a
// child process, and applies Probed.
type World struct {
	devices map[string]*entry
	// generation counts readings that a probe may answer.
	generation uint64
	// index is of the devices as they are, nil after a change.
	index *index
}

type entry struct {
	device  Device
	content *media.Content
	// failed is why the last probe gave nothing.
	failed string
	// epoch is the generation since which content read describes this medium; an older answer is of something else.
	epoch uint64
	// wanted is the generation of the newest reason to probe, asked that of the newest request, probed of the newest answer.
	wanted, asked, probed uint64
	// notReady is why the device must not be used yet, by the word of udevd where there is one.
	notReady string
}

// NewWorld returns a world without devices.
func NewWorld() *World { return &World{devices: map[string]*entry{}} }

// Change is one of Seen, Gone, Enumerated, Probed, Reread and Stale.
type Change interface{ apply(*World) }

// Seen says that a device came or changed. What was read from it before stays valid until the next probe answers, unless it is
// another disk now.
type Seen struct {
	Device Device
	// NotReady, if not "", is why the device must not be used yet: "udevd has not processed it".
	NotReady string
}

// Gone says that a device was removed.
type Gone struct{ Name string }

// Enumerated is everything there is; what is not among it is gone. With Unchanged nobody has written to a device since it was
// last seen: what was read of those that are the same still holds, and what is being read will.
type Enumerated struct {
	Devices   []Seen
	Unchanged bool
}

// Probed answers a Request. Failure, if not "", is why there is no content.
type Probed struct {
	Request Request
	Content media.Content
	Failure string
}

// Stale says that what was read from a device no longer holds, as after a drive was unlocked: until it is read again, it has no
// names by content.
type Stale struct{ Name string }

// Reread says that a device that could not be read may answer by now.
type Reread struct{ Name string }

// Request asks for a probe of a device.
type Request struct {
	Name, Node string
	Generation uint64
}

// Apply takes a change in.
func (w *World) Apply(c Change) {
	w.index = nil
	c.apply(w)
}

func (c Seen) apply(w *World) {
	w.generation++
	e := w.devices[c.Device.Name]
	if e == nil || !e.device.same(c.Device) {
		e = &entry{epoch: w.generation}
		w.devices[c.Device.Name] = e
	}
	e.device, e.notReady, e.wanted = c.Device, c.NotReady, w.generation
	for name, other := range w.devices {
		if name != c.Device.Name {
			other.device.Holders = set(other.device.Holders, c.Device.Name, slices.Contains(c.Device.Slaves, name))
			other.device.Slaves = set(other.device.Slaves, c.Device.Name, slices.Contains(c.Device.Holders, name))
		}
	}
}

// set returns names with or without one. The kernel sends no event for a device that gets or loses a holder, only for the
// holder: what the newer of two readings says of both sides is what holds.
func set(names []string, name string, in bool) []string {
	if slices.Contains(names, name) == in {
		return names
	}
	if in {
		names = append(slices.Clone(names), name)
		slices.Sort(names)
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

func (c Gone) apply(w *World) {
	delete(w.devices, c.Name)
	for _, other := range w.devices {
		other.device.Holders = set(other.device.Holders, c.Name, false)
		other.device.Slaves = set(other.device.Slaves, c.Name, false)
	}
}

func (c Enumerated) apply(w *World) {
	there := map[string]bool{}
	for _, seen := range c.Devices {
		there[seen.Device.Name] = true
		e := w.devices[seen.Device.Name]
		holds := c.Unchanged && e != nil && e.device.same(seen.Device)
		wanted := uint64(0)
		if holds {
			wanted = e.wanted
		}
		seen.apply(w)
		if holds {
			e.wanted = wanted
		}
	}
	for name := range w.devices {
		if !there[name] {
			Gone{name}.apply(w)
		}
	}
}

func (c Probed) apply(w *World) {
	e := w.devices[c.Request.Name]
	if e == nil || c.Request.Generation < e.epoch || c.Request.Generation < e.probed {
		return // of a disk that is gone, or overtaken
	}
	e.probed = c.Request.Generation
	e.failed = c.Failure
	e.content = nil
	if c.Failure == "" {
		content := c.Content
		e.content = &content
	}
}

func (c Stale) apply(w *World) {
	if e := w.devices[c.Name]; e != nil {
		w.generation++
		e.content, e.failed = nil, ""
		e.epoch, e.wanted = w.generation, w.generation
	}
}

func (c Reread) apply(w *World) {
	if e := w.devices[c.Name]; e != nil && e.failed != "" && e.wanted <= e.asked {
		w.generation++
		e.wanted = w.generation
	}
}

// ToProbe returns a request for each device whose medium should be read, once for each reason. Legs of a multipath device are not read
// (a passive path does not answer), nor is what cannot be opened without blocking.
func (w *World) ToProbe() []Request {
	var requests []Request
	for _, e := range w.sorted() {
		if !w.due(e) {
			continue
		}
		e.asked = e.wanted
		requests = append(requests, Request{Name: e.device.Name, Node: e.device.Node(), Generation: e.wanted})
	}
	return requests
}

// Unread tells whether ToProbe would return anything.
func (w *World) Unread() bool {
	for _, e := range w.devices {
		if w.due(e) {
			return true
		}
	}
	return false
}

func (w *World) due(e *entry) bool {
	return e.wanted > e.asked && e.device.probeable() && !w.passive(e.device) && e.notReady == ""
}

// Devices returns all devices, sorted by name.
func (w *World) Devices() []Device {
	var devices []Device
	for _, e := range w.sorted() {
		devices = append(devices, e.device)
	}
	return devices
}

// Device returns a device by the kernel's name.
func (w *World) Device(name string) (Device, bool) {
	e, ok := w.devices[name]
	if !ok {
		return Device{}, false
	}
	return e.device, true
}

// Content is what was last read from a device, nil if nothing was yet; failure is why the last attempt gave nothing.
func (w *World) Content(name string) (content *media.Content, failure string) {
	e, ok := w.devices[name]
	if !ok {
		return nil, ""
	}
	return e.content, e.failed
}

func (w *World) sorted() []*entry {
	return slices.SortedFunc(maps.Values(w.devices), byName)
}

func byName(a, b *entry) int { return cmp.Compare(a.device.Name, b.device.Name) }

// heldBy returns a holder of one of these kinds above a device or above the disk it is a partition of. unknown is one that sysfs
// names but that was not seen yet: nobody can say of what kind it is.
func (w *World) heldBy(d Device, kinds ...Kind) (holder *Device, unknown string) {
	holders := d.Holders
	if disk := w.devices[d.Disk]; d.Partition != 0 && disk != nil {
		holders = append(slices.Clone(holders), disk.device.Holders...)
	}
	for _, name := range holders {
		switch above := w.devices[name]; {
		case above == nil:
			unknown = name
		case slices.Contains(kinds, above.device.Kind()):
			return &above.device, ""
		}
	}
	return nil, unknown
}

// passive says whether a device is, or may be, a path of a multipath device, which must not be read.
func (w *World) passive(d Device) bool {
	holder, unknown := w.heldBy(d, Multipath)
	return holder != nil || unknown != ""
}

// Names returns every name of a device in the form that Resolve takes, sorted: "dev/vda1", "id/virtio-data0-part1",
// "path/…", "uuid/…", "label/…", "partuuid/…", "partlabel/…", "diskseq/…", "dev/mapper/…". All but those with dev/ are, below
// /dev/disk/by-KIND, the links that udev makes.
func (w *World) Names(name string) []string {
	e := w.devices[name]
	if e == nil {
		return nil
	}
	d := e.device
	names := []string{"dev/" + d.Name}
	if d.DM != nil && d.DM.Name != "" {
		names = append(names, "dev/mapper/"+d.DM.Name)
	}
	if !d.named() {
		return names
	}
	for _, id := range append(slices.Clone(d.IDs), w.arrayIDs(d)...) {
		names = append(names, "id/"+id)
	}
	for _, path := range d.Paths {
		names = append(names, "path/"+path)
	}
	if d.DiskSeq != 0 && d.Partition == 0 && d.DM == nil && !d.isMD() {
		names = append(names, "diskseq/"+decimal(d.DiskSeq))
	}
	table, part := w.partition(d)
	names = append(names, d.links(e.content, table, part)...)
	slices.Sort(names)
	return slices.Compact(names)
}

// partition finds a partition's entry in the table of the disk it is on; for one that kpartx made, on the device it stands on.
func (w *World) partition(d Device) (*media.Table, *media.Partition) {
	number, disk := d.Partition, d.Disk
	if d.DM != nil && len(d.Slaves) == 1 {
		number, disk = d.DM.partition(), d.Slaves[0]
	}
	on := w.devices[disk]
	if number == 0 || on == nil || on.content == nil || on.content.Table == nil {
		return nil, nil
	}
	for i, p := range on.content.Table.Partitions {
		// A table that was written anew and not yet read by the kernel has other extents under the same numbers.
		if p.Number == number && (d.DM != nil || p.Start == d.Start) {
			return on.content.Table, &on.content.Table.Partitions[i]
		}
	}
	return nil, nil
}

// arrayIDs are the names of an md array, or of a partition on one, from the superblock of any member (63-md-raid-arrays.rules).
func (w *World) arrayIDs(d Device) []string {
	array, suffix := d, ""
	if d.Partition != 0 {
		if on := w.devices[d.Disk]; on != nil {
			array, suffix = on.device, "-part"+decimal(trailing(d.Name))
		}
	}
	if array.MD == nil {
		return nil
	}
	for _, name := range array.Slaves {
		member := w.devices[name]
		if member == nil || member.content == nil || member.content.Signature == nil || member.content.Signature.Type != "linux_raid_member" {
			continue
		}
		var ids []string
		if s := member.content.Signature; s.UUID != "" {
			ids = append(ids, "md-uuid-"+mdUUID(s.UUID)+suffix)
			if s.Label != "" {
				ids = append(ids, link("md-name-", s.Label)+suffix)
			}
		}
		return ids
	}
	return nil
}

// mdUUID groups the 32 digits as mdadm does: by eights, with colons.
func mdUUID(uuid string) string {
	digits := strings.ReplaceAll(uuid, "-", "")
	if len(digits) != 32 {
		return uuid
	}
	return digits[0:8] + ":" + digits[8:16] + ":" + digits[16:24] + ":" + digits[24:32]
}
