package plan

import (
	"fmt"
	"slices"
	"strings"

	"initd/boot/appliance"
)

// unprovided reports that nothing provides r, which u needs, at the place
// that names it, with what the file has instead.
func (x *Expansion) unprovided(u *Unit, r Resource, provider map[Resource]*Unit) {
	if x.problems.Many() {
		x.Fail(x.origin[u.ID], "", "%s needs %s, which nothing provides", u.ID, r)
		return
	}
	var known []Resource
	for k, p := range provider {
		if p.ID != u.ID {
			known = append(known, k)
		}
	}
	slices.Sort(known)
	hint := ""
	if meant := likely(r, known); meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
	} else if same := ofClass(r.Class(), known); len(same) > 0 {
		hint = "this file provides " + brief(same)
	} else if x.Appliance.Incomplete() {
		return // its section may be what could not be read
	} else if section, ok := sections()[r.Class()]; ok {
		hint = fmt.Sprintf("this file provides no %s at all: add it under %s", r.Class(), section)
		if len(ofClass(r.Class(), u.Provides)) > 0 {
			hint = fmt.Sprintf("this file provides no other %s: add it under %s", r.Class(), section)
		}
	} else {
		hint = "write a device (uuid/…, label/…, partlabel/…, path/…, dev/…)"
		if len(known) > 0 {
			hint += " or something of this file: " + brief(known)
		}
	}
	at := x.origin[u.ID]
	for _, p := range x.asked[r] {
		if strings.HasPrefix(p, at) {
			at = p
			break
		}
	}
	x.Fail(at, hint, "%s needs %s, which nothing provides", u.ID, r)
}

// likely is what r is probably meant to be: another name of its class, or
// its name in another class.
func likely(r Resource, known []Resource) Resource {
	var names, classes []string
	for _, k := range known {
		switch {
		case k.Class() == r.Class():
			names = append(names, k.Name())
		case k.Name() == r.Name():
			classes = append(classes, k.Class())
		}
	}
	if n := appliance.Nearest(r.Name(), names); n != "" {
		return Resource(r.Class() + "/" + n)
	}
	if c := appliance.Nearest(r.Class(), append(classes, blockForms[:]...)); c != "" {
		return Resource(c + "/" + r.Name())
	}
	return ""
}

// sections says where in a file the resources of a class come from.
func sections() map[string]string {
	return map[string]string{
		ClassLUKS: "media: {luks: […]}", ClassNVMe: "fabrics: {nvme: […]}", ClassKey: "media: {luks: […]}", ClassMount: "mounts:",
		ClassService: "services:", ClassTime: "time:", ClassNet: "network:", ClassISCSI: "fabrics: {iscsi: […]}",
	}
}

func ofClass(class string, list []Resource) []Resource {
	var same []Resource
	for _, r := range list {
		if r.Class() == class {
			same = append(same, r)
		}
	}
	return same
}

// brief lists what fits on a line.
func brief(list []Resource) string {
	const show = 8
	var words []string
	for _, r := range list[:min(show, len(list))] {
		words = append(words, string(r))
	}
	if len(list) > show {
		words = append(words, "…")
	}
	return strings.Join(words, ", ")
}
