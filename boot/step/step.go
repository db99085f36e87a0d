// Package step says what each kind of unit is: what the lines of an appliance
// become (pure), what the engine calls for them, and what runs in a child
// process for that, side by side in one file a kind.
//
// It owns the kinds and the small interfaces they need. It never starts a
// process, speaks to PID 1 or opens a socket by itself: main fills the
// interfaces in. It never imports initd.
package step

import (
	"context"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
)

// Step is one kind of unit.
type Step struct {
	Kind plan.Kind
	// New makes the action; nil for kinds that only add units of other kinds.
	New func(d *Deps) engine.Action
	// Children are the functions that this kind runs in child processes.
	Children map[string]ChildFunc
}

// All lists every kind, in the order in which people read a plan.
func All() []Step {
	return []Step{
		linkStep(),
		routeStep(),
		ruleStep(),
		dnsStep(),
		clockStep(),
		keyStep(),
		nvmeStep(),
		nvmeDiskStep(),
		iscsiPathStep(),
		iscsiStep(),
		luksStep(),
		mountStep(),
		rootStep(),
		serviceStep(),
		sysctlStep(),
	}
}

// Kinds returns the pure half of All, for plan.Compile.
func Kinds() []plan.Kind {
	var list []plan.Kind
	for _, s := range All() {
		list = append(list, s.Kind)
	}
	return list
}

// Actions makes the action of every kind.
func Actions(d *Deps) map[string]engine.Action {
	m := map[string]engine.Action{}
	for _, s := range All() {
		if s.New != nil {
			m[s.Kind.Name] = s.New(d)
		}
	}
	return m
}

// ChildFuncs returns every function that may run in a child, by name.
func ChildFuncs() map[string]ChildFunc {
	m := stateChildren()
	m["probe"], m["exists"] = Takes(probeMedia), Takes(lookFor)
	for _, s := range All() {
		for n, f := range s.Children {
			m[n] = f
		}
	}
	return m
}

// Deps is what main gives to the actions.
type Deps struct {
	Children Children
	Services Services
	Devices  Devices
	Volumes  Volumes
	Keys     *KeyStore
	Modules  Modules
	Paths    Paths
	Desk     *Desk
	// ClockFloor is past for certain: a time server that shows an earlier time is not believed.
	ClockFloor time.Time
	// OwnDNS: the appliance names its name servers; a lease's are ignored.
	OwnDNS bool
	// Life ends with the orchestrator: upkeep of leases and the like.
	Life context.Context
	// Lose says that a unit that was done is no longer: it is checked and applied again.
	Lose func(unit, reason string)
	// Note puts a line into the report that no unit's attempt can carry.
	Note func(string)
	// Lost reports that what a finished unit stands on is lost, or (back) there
	// again; the unit stays.
	Lost func(unit, resource, reason string, back bool)
}

func (d *Deps) lost(unit, link, reason string, back bool) {
	if d.Lost != nil {
		d.Lost(unit, "carrier/"+link, reason, back)
	}
}

// Paths are the places that differ between a machine and a test.
type Paths struct {
	Config   string   // folder of the appliance file
	Identity []string // folders that are searched before it for certificates and keys
	Run      string   // /run/initd
	Resolv   string   // /etc/resolv.conf
	// Root is where the root to which the machine is handed over is mounted;
	// empty without one, and in that root.
	Root string
}

// Modules loads kernel modules by name or alias; those built in or unknown to
// the image's pruned tree but present in the kernel are no error.
type Modules interface {
	Load(ctx context.Context, names ...string) error
}

// Volumes answers whether an encrypted volume is open.
type Volumes interface {
	Open(name string) bool
}

// Devices answers which device a block resource is right now.
type Devices interface {
	// Device returns the path of the node (/dev/vdb) that is the top of the
	// stack for r, or an error that says what is missing.
	Device(r plan.Resource) (string, error)
	// Settle returns when the engine knows all that is there at this moment.
	Settle(ctx context.Context) error
}
