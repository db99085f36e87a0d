package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"initd/boot/appliance"
)

// Kind says what the lines of an appliance become. Expand is pure: it adds
// units and problems to x and touches nothing else.
type Kind struct {
	Name   string
	Expand func(x *Expansion)
	// Provide, if not nil, is asked for a resource that some unit needs and
	// none provides, when all kinds are expanded: it adds the unit that does, and
	// says whether there is one. So what a file only mentions (a namespace of a
	// subsystem) need not be listed a second time.
	Provide func(x *Expansion, r Resource) bool
}

// Facts describe the machine that a plan is for; an empty one leaves
// ${machine.*} (but for the name) unexpanded, and that is a problem.
type Facts struct {
	Serial  string `json:"serial,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	Vendor  string `json:"vendor,omitempty"`
	Product string `json:"product,omitempty"`
	// Firmware is what the boot firmware's tables ask for; it becomes a part of the plan.
	Firmware []appliance.Firmware `json:"firmware,omitempty"`
}

// Expansion is what a Kind works on.
type Expansion struct {
	Appliance *appliance.Appliance

	facts    Facts
	kind     string
	problems *appliance.Problems
	units    []Unit
	origin   map[string]string     // unit ID -> path in the appliance
	asked    map[Resource][]string // the paths at which a resource is named
	mounts   map[string]string     // for MountOf: where each is, without and with a slash at its end
}

// Fail reports a problem at a path of the appliance ("mounts[0].what").
func (x *Expansion) Fail(at, hint, format string, args ...any) {
	x.problems.Add(x.Appliance.At(at), at, hint, format, args...)
}

// Add joins a unit to the plan. at is the path of the line that asked for it;
// spec is marshalled into u.Spec. Kind, Origin and Digest are filled in.
func (x *Expansion) Add(at string, u Unit, spec any) {
	u.Kind = x.kind
	if spec != nil {
		b, err := json.Marshal(spec)
		if err != nil {
			x.Fail(at, "", "%s: %v", u.ID, err)
			return
		}
		u.Spec = b
	}
	pos := x.Appliance.At(at)
	if pos.Line > 0 {
		u.Origin = fmt.Sprintf("%s:%d", pos.File, pos.Line)
	} else if x.Appliance.FromFirmware(at) {
		u.Origin = pos.File
	}
	u.Digest = digest(u.Kind, u.Spec)
	x.origin[u.ID] = at
	x.units = append(x.units, u)
}

// Expand replaces the facts in s for the unit called name. Facts of a drive
// stay; a machine fact that is not known here is a problem.
func (x *Expansion) Expand(at, s, name string) string {
	return appliance.Expand(s, func(fact string) (string, bool) {
		v := ""
		switch fact {
		case "machine.name":
			v = x.Appliance.Name
		case "machine.serial":
			v = x.facts.Serial
		case "machine.uuid":
			v = x.facts.UUID
		case "machine.vendor":
			v = x.facts.Vendor
		case "machine.product":
			v = x.facts.Product
		case "unit.name":
			v = name
		case "unit.kind":
			v = x.kind
		default:
			return "", false
		}
		if v == "" {
			x.Fail(at, "plan with --facts host on that machine, or --facts FILE", "${%s} is not known here", fact)
			return "", false
		}
		return v, true
	})
}

// Device reads the name of a device or of another unit's result; "" is a
// problem that loading has found.
func (x *Expansion) Device(at, s string) Resource {
	if s == "" {
		return ""
	}
	r, err := ParseResource(s)
	if err != nil {
		x.Fail(at, "", "%v", err)
		return ""
	}
	x.asked[r] = append(x.asked[r], at)
	return r
}

// Named is the path at which the file names r, or else at.
func (x *Expansion) Named(r Resource, at string) string {
	if list := x.asked[r]; len(list) > 0 {
		return list[0]
	}
	return at
}

// Needed reads one entry of a needs list: a resource, or an absolute path
// outside /dev, which means the mount that holds it. A path on the root file system needs
// nothing: ok is false.
func (x *Expansion) Needed(at, s string) (r Resource, ok bool) {
	if path.IsAbs(s) && !strings.HasPrefix(s, "/dev/") {
		return x.MountOf(s)
	}
	r = x.Device(at, s)
	return r, r != ""
}

// MountOf returns the mount of this appliance that holds p, if one does.
func (x *Expansion) MountOf(p string) (Resource, bool) {
	if x.mounts == nil {
		x.mounts = make(map[string]string, len(x.Appliance.Mounts))
		for _, m := range x.Appliance.Mounts {
			if m.Where != "" {
				x.mounts[strings.TrimSuffix(m.Where, "/")] = m.Where
			}
		}
	}
	for {
		p = strings.TrimSuffix(p, "/")
		if where, ok := x.mounts[p]; ok {
			return MountResource(where), true
		}
		up := strings.LastIndexByte(p, '/')
		if up < 0 {
			return MountResource(""), false
		}
		p = p[:up]
	}
}

// Policy lays what the file says over a kind's defaults.
func (x *Expansion) Policy(said appliance.Policy, def Policy) Policy {
	if said.Deadline != 0 {
		def.Deadline = Duration(said.Deadline)
	}
	if said.Wait != 0 {
		def.Wait = Duration(said.Wait)
	}
	if said.OnFailure.Action != "" {
		def.OnFailure, def.Reboots = OnFailure(said.OnFailure.Action), said.OnFailure.Reboots
	}
	if def.OnFailure == "" {
		def.OnFailure = Degrade
	}
	return def
}

func digest(kind string, spec []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s", kind, spec)
	return hex.EncodeToString(h.Sum(nil)[:8])
}
