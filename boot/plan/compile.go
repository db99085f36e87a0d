package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"initd/boot/appliance"
)

// Defaults of the budgets.
const (
	DefaultBoot     = 3 * time.Minute
	DefaultShutdown = time.Minute
	DefaultState    = "block/label/initd-state"
)

// ReadyID is the unit that is done when every other has had its first round.
const ReadyID = "ready"

// Compile turns an appliance into a plan. It is pure; the error, if any, is
// *appliance.Problems with everything that is wrong.
func Compile(a *appliance.Appliance, f Facts, kinds []Kind) (*Plan, error) {
	a, notes := a.WithFirmware(f.Firmware)
	x := &Expansion{Appliance: a, facts: f, problems: &appliance.Problems{}, origin: map[string]string{}, asked: map[Resource][]string{}}
	for _, k := range kinds {
		x.kind = k.Name
		k.Expand(x)
	}
	x.provide(kinds)
	p := &Plan{
		Schema: Schema, Name: a.Name,
		Budget:   Duration(a.Budgets.Boot.Or(DefaultBoot)),
		Shutdown: Duration(a.Budgets.Shutdown.Or(DefaultShutdown)),
		Shell:    a.Shell.PasswordHash,
		State:    DefaultState,
		Units:    x.units,
		Notes:    slices.Concat(a.Notes, notes),
	}
	if a.State != "" {
		p.State = string(x.Device("state", a.State))
	}
	for i := range p.Units {
		defaults(&p.Units[i])
	}
	x.check(p)
	if err := x.problems.Err(); err != nil {
		return nil, err
	}
	p.Units = append(p.Units, ready(p.Units))
	sortUnits(p.Units)
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("compile plan: %w", err)
	}
	p.Digest = digest("plan", b)
	return p, nil
}

// provide asks the kinds for what is needed and not there yet, what those
// units need in turn included.
func (x *Expansion) provide(kinds []Kind) {
	asked := map[Resource]bool{}
	for _, u := range x.units {
		for _, r := range u.Provides {
			asked[r] = true
		}
	}
	for i := 0; i < len(x.units); i++ {
		for _, n := range x.units[i].Needs {
			for _, r := range n.AnyOf {
				if asked[r] || r.World() {
					continue
				}
				asked[r] = true
				for _, k := range kinds {
					x.kind = k.Name
					if k.Provide != nil && k.Provide(x, r) {
						break
					}
				}
			}
		}
	}
}

// Defaults fills in what a kind left out of a unit. Compile does it for the
// units of a plan; instances of templates get it when they join.
func Defaults(u *Unit) { defaults(u) }

// defaults fills in what the kinds leave out.
func defaults(u *Unit) {
	for i := range u.Needs {
		n := &u.Needs[i]
		n.Min = max(n.Min, 1)
		if n.Mode == "" {
			n.Mode = Require
		}
	}
	if u.Policy.Deadline == 0 {
		u.Policy.Deadline = Duration(30 * time.Second)
	}
	if u.Policy.OnFailure == "" {
		u.Policy.OnFailure = Degrade
	}
	if u.Policy.Retry == (Retry{}) {
		u.Policy.Retry = Retry{Initial: Duration(time.Second), Max: Duration(30 * time.Second), Factor: 2, Jitter: 0.1}
	}
	if u.OnLoss == "" {
		u.OnLoss = LossReport
	}
}

// ready comes after everything that provides something.
func ready(units []Unit) Unit {
	u := Unit{ID: ReadyID, Kind: "milestone", Stage: Ready, Milestone: true, Provides: []Resource{ClassMilestone + "/ready"}}
	for _, o := range units {
		if len(o.Provides) > 0 {
			u.Needs = append(u.Needs, Need{AnyOf: []Resource{o.Provides[0]}, Min: 1, Mode: After})
		}
	}
	slices.SortFunc(u.Needs, func(a, b Need) int { return cmp.Compare(a.AnyOf[0], b.AnyOf[0]) })
	defaults(&u)
	u.Digest = digest(u.Kind, nil)
	return u
}

func sortUnits(us []Unit) {
	rank := map[Stage]int{}
	for i, s := range Stages() {
		rank[s] = i
	}
	slices.SortStableFunc(us, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(rank[a.Stage], rank[b.Stage]), cmp.Compare(a.ID, b.ID))
	})
}

// check finds units given twice, needs that nobody provides, and cycles.
func (x *Expansion) check(p *Plan) {
	byID := map[string]*Unit{}
	provider := map[Resource]*Unit{}
	for i := range p.Units {
		u := &p.Units[i]
		if first, ok := byID[u.ID]; ok {
			if x.Appliance.Taken(x.origin[u.ID]) || strings.HasSuffix(u.ID, "/") {
				continue // loading has reported the name, or that there is none
			}
			x.Fail(x.origin[u.ID], "rename one of them", "%s stands twice: in %s and in %s", u.ID, first.Origin, u.Origin)
			continue
		}
		byID[u.ID] = u
		for _, r := range u.Provides {
			if first, ok := provider[r]; ok {
				x.Fail(x.origin[u.ID], "remove one of them", "%s is provided by %s and by %s", r, first.ID, u.ID)
			}
			provider[r] = u
		}
	}
	for i := range p.Units {
		u := &p.Units[i]
		for _, n := range u.Needs {
			for _, r := range n.AnyOf {
				if r != "" && provider[r] == nil && !r.World() {
					x.unprovided(u, r, provider)
				}
			}
		}
	}
	x.claimed(p.Units)
	x.cycles(p.Units, provider)
}

// claimed finds devices that two volumes take over, each of which would write over the other, and volumes that are to be
// mounted as if they were not encrypted. Other names of the same device are found where it is opened. The first claim of a volume
// is its data; the second is a header, which is only read: volumes may share one.
func (x *Expansion) claimed(units []Unit) {
	const luks = "luks"
	by := map[Resource]*Unit{}
	for i := range units {
		u := &units[i]
		for n, r := range u.Claims {
			switch first := by[r]; {
			case r == "" || u.Kind != luks:
			case first == nil:
				by[r] = u
			case n > 0 && first.Claims[0] != r:
			case first.ID != u.ID:
				x.Fail(x.origin[u.ID], "a device holds one volume: correct the device of one of them, or remove it", "%s and %s are both on %s", first.ID, u.ID, r)
			}
		}
	}
	for i := range units {
		u := &units[i]
		if u.Kind != "mount" {
			continue
		}
		for _, n := range u.Needs {
			for _, r := range n.AnyOf {
				if v := by[r]; v != nil {
					x.Fail(x.origin[u.ID]+".what", "write what: "+string(v.Provides[0]), "%s is on %s, which is encrypted: it holds %s", u.ID, r, v.ID)
				}
			}
		}
	}
}

// cycles reports units that could never start even if the whole world were
// there: an any-of is a cycle only when too few of its alternatives are free.
func (x *Expansion) cycles(units []Unit, provider map[Resource]*Unit) {
	started := map[string]bool{}
	blocked := func(n Need) (Resource, bool) {
		free, first := 0, Resource("")
		for _, r := range n.AnyOf {
			if p := provider[r]; p == nil || started[p.ID] {
				free++
			} else if first == "" {
				first = r
			}
		}
		if n.Mode == After {
			return first, first != ""
		}
		return first, free < n.Min
	}
	blocker := func(u *Unit) *Unit {
		for _, n := range u.Needs {
			if r, is := blocked(n); is {
				return provider[r]
			}
		}
		return nil
	}
	for again := true; again; {
		again = false
		for i := range units {
			if u := &units[i]; !started[u.ID] && blocker(u) == nil {
				started[u.ID], again = true, true
			}
		}
	}
	reported := map[string]bool{}
	for i := range units {
		u := &units[i]
		if started[u.ID] || reported[u.ID] {
			continue
		}
		var chain []string
		at := map[string]int{}
		for ; !reported[u.ID]; u = blocker(u) {
			if from, ok := at[u.ID]; ok {
				x.cycle(chain[from:])
				break
			}
			at[u.ID] = len(chain)
			chain = append(chain, u.ID)
		}
		for _, id := range chain {
			reported[id] = true
		}
	}
}

// cycle reports units of which each needs the next, and the last the first.
func (x *Expansion) cycle(loop []string) {
	b := &strings.Builder{}
	at := x.Appliance.At(x.origin[loop[0]])
	for _, id := range loop {
		where := ""
		if p := x.Appliance.At(x.origin[id]); p.File != at.File {
			where = fmt.Sprintf(" (%s:%d)", p.File, p.Line)
		} else if p.Line != at.Line {
			where = fmt.Sprintf(" (line %d)", p.Line)
		}
		fmt.Fprintf(b, "%s%s needs ", id, where)
	}
	hint := "remove one of these needs: as it is, none of them could ever start"
	if len(loop) == 1 {
		hint = "remove that need"
	}
	x.Fail(x.origin[loop[0]], hint, "cycle: %s%s", b, loop[0])
}
