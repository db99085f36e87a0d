// Package appliance reads the file that describes an appliance.
//
// It owns the file's types, strict loading (every error at once, each with
// file, line and column), layers (appliance.d), the canonical form and the
// JSON Schema. It never looks at the machine, resolves no reference to a unit
// (boot/plan does) and holds no secret: the file has none.
package appliance

import (
	"fmt"
	"strings"
)

// APIVersion is the only value of the key of that name.
const APIVersion = "initd/v1"

// Pos is where something stands in the files of an appliance.
type Pos struct {
	File      string
	Line, Col int
}

func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Appliance is one file with its layers merged in.
//
// Field tags: yaml is the key, doc its description in the schema, want the
// word "required" for keys that must be there, private is true where somebody
// may write a secret by mistake: no error repeats what stands there. A field Pos is set to where
// its mapping begins.
type Appliance struct {
	Pos        Pos    `yaml:"-"`
	APIVersion string `yaml:"apiVersion" want:"required" doc:"always initd/v1"`
	Name       string `yaml:"name" want:"required" doc:"the machine's name; ${machine.name} in this file"`

	Budgets Budgets `yaml:"budgets" doc:"how long the way up and the way down may take"`
	Shell   Shell   `yaml:"shell" private:"true" doc:"never (default), or {password: HASH} with a crypt(3) hash"`
	State   string  `yaml:"state" doc:"where the last good plan and key tries live (default label/initd-state)"`

	Firmware string    `yaml:"firmware" doc:"links and fabrics that the firmware booted from (iBFT, NBFT): auto (default), ignore, or use, which makes images carry what they need"`
	Network  *Network  `yaml:"network" doc:"links, routes and name servers; {by: host} configures nothing"`
	Time     *Time     `yaml:"time" doc:"time servers"`
	Keys     *Keys     `yaml:"keys" doc:"key servers and how to talk to them"`
	Media    *Media    `yaml:"media" doc:"encrypted media to unlock"`
	Fabrics  *Fabrics  `yaml:"fabrics" doc:"storage that is reached over a network"`
	Mounts   []Mount   `yaml:"mounts" doc:"file systems to mount"`
	Services []Service `yaml:"services" doc:"daemons to start, watch and stop"`
	Jobs     *Jobs     `yaml:"jobs" doc:"what runs in the background once the machine is up"`
	Sysctl   Sysctl    `yaml:"sysctl" doc:"kernel parameters: vm.swappiness: \"10\""`
	Image    *Image    `yaml:"image" doc:"what an image of this appliance carries besides initd"`

	Notes []string `yaml:"-"` // what its layers say and nothing came of

	positions  map[string]Pos
	incomplete bool
	taken      map[string]bool
}

// Incomplete tells whether parts of the file could not be read: what seems to
// be missing may stand in them.
func (a *Appliance) Incomplete() bool { return a.incomplete }

// Taken tells whether loading has reported that the name of the entry at path
// is taken by one before it.
func (a *Appliance) Taken(path string) bool {
	for {
		if a.taken[path] {
			return true
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// At returns where the value at path ("mounts[0].where") stands, or the
// nearest mapping or list around it.
func (a *Appliance) At(path string) Pos {
	for {
		if p, ok := a.positions[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return a.Pos
		}
		path = path[:i]
	}
}

// Budgets bound a boot and a shutdown as a whole.
type Budgets struct {
	Boot     Duration `yaml:"boot" doc:"the boot settles within this time (default 3m)"`
	Shutdown Duration `yaml:"shutdown" doc:"the machine is down within this time (default 60s)"`
}

// Shell says whether the failure screen may open one.
type Shell struct {
	PasswordHash string // crypt(3) format; empty: never
}

// Policy holds the keys that every unit-making entry has.
type Policy struct {
	OnFailure OnFailure `yaml:"on-failure" doc:"degrade (go on, keep trying), halt, or reboot(N)"`
	Deadline  Duration  `yaml:"deadline" doc:"bound of one attempt"`
	Wait      Duration  `yaml:"wait" doc:"how long to wait for what it needs before it counts as degraded; it goes on waiting (default: as long as the boot may take; for a device, where there is a root to hand over to, until none has come for 2s)"`
}

// Time names time servers.
type Time struct {
	Pos     Pos      `yaml:"-"`
	Servers []string `yaml:"servers" doc:"SNTP servers: addresses or names; without any the clock is only raised to its floor"`
}

// Image is what an image carries besides initd.
type Image struct {
	Pos      Pos         `yaml:"-"`
	Packages []string    `yaml:"packages" doc:"Debian packages whose programs, libraries and users go in"`
	Files    []ImageFile `yaml:"files" doc:"files to copy in"`
	Modules  []string    `yaml:"modules" doc:"kernel modules beyond those that the units ask for"`
}

// ImageFile is one file to copy into an image.
type ImageFile struct {
	Pos  Pos    `yaml:"-"`
	From string `yaml:"from" want:"required" doc:"path, relative to the appliance file"`
	To   string `yaml:"to" want:"required" doc:"absolute path in the image"`
	Mode Mode   `yaml:"mode" doc:"octal, in quotes (default 0644)"`
}
