package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
	"initd/initd/api"
	"initd/initd/handover"
)

// handle carries out what the local interface asks for.
func (o *orchestrator) handle(_ context.Context, r api.Request, f *os.File) (string, error) {
	if f != nil && r.Op != api.OpFeedKey {
		f.Close()
	}
	switch r.Op {
	case api.OpPing:
		return "initd " + version, nil
	case api.OpRetry:
		if r.Unit == step.RootUnit && o.init != nil {
			select {
			case o.root.again <- struct{}{}:
			default: // asked for already
			}
		}
		return o.retry(r.Unit)
	case api.OpSkip:
		return o.skip(r.Unit)
	case api.OpFeedKey:
		return o.feed(r.Name, f)
	case api.OpLogs:
		return o.serviceLog(r.Name)
	case api.OpShutdown:
		if o.init == nil {
			return "", fmt.Errorf("PID 1 is %s here, and the way down its own: systemctl %s", handover.InitName("/proc"), r.Name)
		}
		return o.goDownAs(r.Name)
	}
	return "", fmt.Errorf("this version of initd does not know the operation %q", r.Op)
}

// feed gives a key to the unit that waits for it.
func (o *orchestrator) feed(name string, f *os.File) (string, error) {
	if f == nil {
		return "", errors.New("no key came with the request")
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "key/"), "luks/")
	var units []string
	for _, id := range []string{"key/" + name, "luks/" + name} {
		if o.chosen.plan.Unit(id) != nil {
			units = append(units, id)
		}
	}
	if len(units) == 0 {
		f.Close()
		return "", fmt.Errorf("no unit of this plan needs a key called %s", name)
	}
	if (volumes{plan: o.chosen.plan, sys: o.blocks.Sys}).Open(name) {
		f.Close()
		return name + " is open already", nil
	}
	if err := o.keys.Put(name, f); err != nil {
		return "", err
	}
	if !slices.Contains(o.desk.Waiting(), name) { // else it takes the key by itself
		for _, id := range units {
			if o.screen.waitsFor(id, "key/"+name) {
				continue // it starts by itself as soon as the key is there
			}
			if err := o.engine.Load().Retry(id); err != nil {
				return "", err
			}
		}
	}
	return "fed " + units[0], nil
}

// retry starts a unit's attempts anew.
func (o *orchestrator) retry(unit string) (string, error) {
	if err := o.orderable(unit); err != nil {
		return "", err
	}
	if err := o.engine.Load().Retry(unit); err != nil {
		return "", err
	}
	return unit + " is tried again", nil
}

// skip gives a unit up.
func (o *orchestrator) skip(unit string) (string, error) {
	if err := o.orderable(unit); err != nil {
		return "", err
	}
	r, err := o.report()
	if err != nil {
		return "", err
	}
	if u := r.Unit(unit); u != nil && u.State.OK() {
		return "", fmt.Errorf("skip %s: it is up, so there is nothing to skip", unit)
	}
	if err := o.engine.Load().Skip(unit); err != nil {
		return "", err
	}
	return unit + " is skipped; initd retry " + unit + " takes that back", nil
}

// report is how everything stands: a fold of the event file.
func (o *orchestrator) report() (*report.Report, error) {
	events, err := report.ReadFile(filepath.Join(o.run, "events"))
	if err != nil {
		return nil, err
	}
	return report.Fold(events), nil
}

// unknownUnit is an order for what is no unit of the plan.
type unknownUnit struct{ unit, hint string }

func (e *unknownUnit) Error() string {
	return fmt.Sprintf("there is no unit %q%s", e.unit, e.hint)
}

// Code is for the caller of the local interface.
func (e *unknownUnit) Code() string { return api.CodeUnknownUnit }

// orderable tells whether people may give orders for a unit: it exists, and is
// no milestone, which only ever follows from the others.
func (o *orchestrator) orderable(unit string) error {
	units := o.engine.Load().Units()
	if _, ok := slices.BinarySearch(units, unit); !ok {
		return &unknownUnit{unit, meant(unit, units)}
	}
	if u := o.chosen.plan.Unit(unit); u != nil && u.Milestone {
		return fmt.Errorf("%s is a milestone: it is reached when the other units are; initd why %s names them", unit, unit)
	}
	return nil
}

// meant suggests a unit: one that is spelt nearly so, or those of that name.
func meant(word string, units []string) string {
	if s := appliance.Suggest(word, units); s != "" {
		return "; " + s
	}
	var list []string
	for _, u := range units {
		if _, name, _ := strings.Cut(u, "/"); name != "" && name == strings.TrimPrefix(word, "/") {
			list = append(list, u)
		}
	}
	if len(list) > 0 {
		return "; there is " + strings.Join(list, ", ")
	}
	return "; see initd status"
}

// logBytes bounds the lines of a service in one answer, which JSON may make
// larger.
const logBytes = 24 << 10

// serviceLog is what a service wrote last.
func (o *orchestrator) serviceLog(name string) (string, error) {
	if unit := plan.ClassService + "/" + name; o.chosen.plan.Unit(unit) == nil {
		units := o.engine.Load().Units()
		return "", &unknownUnit{unit, meant(unit, units)}
	}
	text := strings.Join(o.services.m.Logs(name, 200), "\n")
	if len(text) > logBytes {
		text = text[len(text)-logBytes:]
	}
	return text + "\n", nil
}

// goDownAs begins the way down, if none has begun.
func (o *orchestrator) goDownAs(kind string) (string, error) {
	if _, ok := kinds[kind]; !ok {
		return "", fmt.Errorf("%q is no way down: poweroff, reboot or halt", kind)
	}
	select {
	case o.down <- kind:
		return kind + " begins", nil
	default:
		return "the way down has begun already", nil
	}
}
