package block

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Code sorts reasons for callers that branch.
type Code string

const (
	Satisfied Code = ""
	Absent    Code = "absent"    // no device answers, or none was read yet that might
	Several   Code = "several"   // more than one answers, and none is the top of the others
	Claimed   Code = "claimed"   // an unfinished unit is going to make something of it
	Covered   Code = "covered"   // a leg or member: what stands on it must be used instead
	NotReady  Code = "not-ready" // it is there, but not to be used yet
	BadName   Code = "bad-name"  // not a name of a block device
)

// Reason is why a name does not mean a device that may be used; Text is for people: "partlabel/data: two devices answer:
// /dev/vda2, /dev/vdb2".
type Reason struct {
	Code Code
	Text string
}

// OK says that there is no reason not to.
func (r Reason) OK() bool { return r.Code == Satisfied }

func because(code Code, format string, arguments ...any) Reason {
	return Reason{Code: code, Text: fmt.Sprintf(format, arguments...)}
}

// Claims are the kernel names of devices on which a unit has yet to work before anybody may use them (an encrypted drive to unlock, a
// path of a multipath device to come, a member of an array), with the unit.
type Claims map[string]string

// Resolve returns the one device that a name means, or the reason why there is none to be used now. A name is uuid/…, label/…,
// partuuid/…, partlabel/…, id/…, path/…, diskseq/… or dev/… ; a block/ in front, and the forms /dev/… and /dev/disk/by-…/…, are understood too. A label may be
// written as it is or as udev encodes it.
func (w *World) Resolve(name string, claims Claims) (Device, Reason) {
	kind, value, err := parseName(name)
	if err != nil {
		return Device{}, because(BadName, "%s: %v", name, err)
	}
	short := kind + "/" + value
	answering := w.answering(kind, value)
	top, covered := w.tops(answering)
	switch {
	case len(answering) == 0:
		return Device{}, because(Absent, "%s: no device answers%s", short, w.unread(kind))
	case len(top) == 0:
		return Device{}, because(Covered, "%s: %s", short, strings.Join(covered, "; "))
	}
	if len(top) > 1 {
		return Device{}, because(Several, "%s: %s devices answer: %s", short, count(len(top)), list(top))
	}
	d := top[0].device
	if who, ok := w.claimed(d, claims); ok {
		return Device{}, because(Claimed, "%s: %s is claimed by %s, which is not finished", short, d, who)
	}
	if top[0].notReady != "" {
		return Device{}, because(NotReady, "%s: %s: %s", short, d, top[0].notReady)
	}
	if reason := d.unusable(); reason != "" {
		return Device{}, because(NotReady, "%s: %s %s", short, d, reason)
	}
	return d, Reason{}
}

// unusable is why a device that is there cannot be used, as far as sysfs tells.
func (d Device) unusable() string {
	switch {
	case d.DM != nil && d.DM.internal():
		return "belongs to a logical volume"
	case d.DM != nil && d.DM.Suspended:
		return "is suspended"
	case d.MD != nil && (d.MD.State == "clear" || d.MD.State == "inactive"):
		return "is an array that is not started (" + d.MD.State + ")"
	case d.Kind() == Loopback && d.Partition == 0 && d.Loop == nil:
		return "is a loop device without a file"
	case d.Size == 0:
		return "has no size: no medium, or no table loaded"
	}
	return ""
}

// tops leaves out what something else stands on that brings the same data: the legs of a multipath device, the members of an
// array. covered says of each why.
func (w *World) tops(answering []*entry) (top []*entry, covered []string) {
	for _, e := range answering {
		holder, unknown := w.heldBy(e.device, Multipath, RAID)
		if holder != nil {
			covered = append(covered, fmt.Sprintf("%s is below %s", e.device, *holder))
			continue
		}
		if unknown != "" {
			covered = append(covered, fmt.Sprintf("%s is below /dev/%s, of which nothing is known yet", e.device, unknown))
			continue
		}
		if w.isMember(e) {
			covered = append(covered, fmt.Sprintf("%s is a member of an array that is not assembled", e.device))
			continue
		}
		top = append(top, e)
	}
	return top, covered
}

func (w *World) isMember(e *entry) bool {
	return e.content != nil && e.content.Signature != nil && e.content.Signature.Type == "linux_raid_member"
}

// claimed looks for a claim on the device, on its disk, and on everything below.
func (w *World) claimed(d Device, claims Claims) (string, bool) {
	seen := map[string]bool{}
	below := []string{d.Name}
	for len(below) > 0 {
		name := below[0]
		below = below[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		if who, ok := claims[name]; ok {
			return who, true
		}
		if e := w.devices[name]; e != nil {
			below = append(below, e.device.Slaves...)
			if e.device.Disk != "" {
				below = append(below, e.device.Disk)
			}
		}
	}
	return "", false
}

// index is what many questions about one state of the world share: a machine of hundreds of disks asks for each of them after each event.
type index struct {
	byName map[string][]*entry // by folded names, each list in the order of the devices' names
	unread string              // see World.unread
}

// folded is the form in which a name is looked up: the case of a UUID's digits does not matter.
func folded(kind, value string) string {
	if kind == "uuid" || kind == "partuuid" {
		value = strings.ToLower(value)
	}
	return kind + "/" + value
}

func (w *World) indexed() *index {
	if w.index != nil {
		return w.index
	}
	w.index = &index{byName: map[string][]*entry{}, unread: w.notRead()}
	for _, e := range w.sorted() {
		if e.device.Hidden {
			continue
		}
		for _, name := range w.Names(e.device.Name) {
			kind, value, _ := strings.Cut(name, "/")
			key := folded(kind, value)
			if list := w.index.byName[key]; len(list) == 0 || list[len(list)-1] != e {
				w.index.byName[key] = append(list, e)
			}
		}
	}
	return w.index
}

// answering returns the devices that have a name, in the order of their own.
func (w *World) answering(kind, value string) []*entry {
	names := w.indexed().byName
	list := names[folded(kind, value)]
	if kind != "label" && kind != "partlabel" || encode(value) == value {
		return list
	}
	list = slices.Concat(list, names[folded(kind, encode(value))])
	slices.SortFunc(list, byName)
	return slices.Compact(list)
}

// unread says which devices may still turn out to answer to a name by content.
func (w *World) unread(kind string) string {
	switch kind {
	case "uuid", "label", "partuuid", "partlabel":
		return w.indexed().unread
	}
	return ""
}

func (w *World) notRead() string {
	var waiting, failed, unclear []string
	for _, e := range w.sorted() {
		switch {
		case !e.device.probeable():
		case e.failed != "":
			failed = append(failed, fmt.Sprintf("%s (%s)", e.device, e.failed))
		case e.content == nil && !w.passive(e.device):
			waiting = append(waiting, e.device.String())
		case e.content != nil && len(e.content.Ambivalent) > 0:
			unclear = append(unclear, fmt.Sprintf("%s (%s)", e.device, strings.Join(e.content.Ambivalent, " and ")))
		}
	}
	text := ""
	for _, part := range []struct {
		what string
		who  []string
	}{{"not read yet", waiting}, {"could not be read", failed}, {"ambivalent", unclear}} {
		if len(part.who) > 0 {
			text += "; " + part.what + ": " + strings.Join(part.who, ", ")
		}
	}
	return text
}

// parseName splits a name into its kind and the rest.
func parseName(name string) (kind, value string, err error) {
	short := strings.TrimPrefix(name, "block/")
	short = strings.TrimPrefix(short, "/")
	if link, ok := strings.CutPrefix(short, "dev/disk/by-"); ok {
		short = link
	}
	kind, value, ok := strings.Cut(short, "/")
	kinds := []string{"uuid", "label", "partuuid", "partlabel", "id", "path", "diskseq", "dev"}
	if !ok || value == "" || !slices.Contains(kinds, kind) {
		return "", "", fmt.Errorf("not a name of a block device; write one of %s/…", strings.Join(kinds, "/…, "))
	}
	return kind, value, nil
}

func list(entries []*entry) string {
	var names []string
	for _, e := range entries {
		names = append(names, e.device.String())
	}
	return strings.Join(names, ", ")
}

func count(n int) string {
	words := []string{"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
	if n < len(words) {
		return words[n]
	}
	return strconv.Itoa(n)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
