package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
)

// chosen is the plan that a boot runs, and what the reader of its report must
// know before anything else.
type chosen struct {
	plan    *plan.Plan
	config  string // folder that relative paths start from
	notices []string
	current bool // it is what the files say: worth keeping once it was ready
}

// choosePlan never fails: a file that does not load must not keep a machine
// from booting. In order: the file on the state disk with its layers, else the
// image's with them; the last plan that reached ready; the image's file alone;
// a plan with nothing in it, so that network, prompt and commands are there.
func choosePlan(file string, state step.StateFiles, facts plan.Facts, parse parser) chosen {
	c := chosen{config: filepath.Dir(file)}
	for _, p := range state.Problems {
		c.notices = append(c.notices, "state disk: "+p)
	}
	sources, err := bootSources(file, state)
	if err == nil {
		c.plan, err = compileSources(sources, facts, parse)
	}
	if err == nil {
		c.notices = append(c.notices, c.plan.Notes...)
		c.current = true
		return c
	}
	bad := firstProblems(err)
	if len(sources) > 0 {
		bad += report.NoticeNext + "initd check " + sources[0].Name
	}
	if state.LastGood != nil {
		c.plan = state.LastGood
		c.notices = append([]string{fmt.Sprintf("the last good plan is used, kept at %s: %s", state.Kept.UTC().Format("2006-01-02 15:04:05 UTC"), bad)}, c.notices...)
		return c
	}
	if own, err := appliance.ReadSources(file); err == nil {
		if p, err := compileSources(own, facts, parse); err == nil {
			c.plan = p
			c.notices = append([]string{"the image's own file is used, without the state disk's: " + bad}, c.notices...)
			return c
		}
	}
	c.plan = emptyPlan()
	c.notices = append([]string{"no plan: " + bad}, c.notices...)
	return c
}

func bootSources(file string, state step.StateFiles) ([]appliance.Source, error) {
	if state.Own {
		return state.Sources, nil
	}
	own, err := appliance.ReadSources(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no appliance file: neither %s nor one on the state disk", file)
	}
	return append(own, state.Sources...), err
}

// parser is appliance.Parse, or what did its work before.
type parser func([]appliance.Source) (*appliance.Appliance, error)

// parseAhead parses the image's own file while the drivers are loaded: with no state disk that is what the boot runs. The parser
// gives that appliance once, for the same text, and parses anything else.
func parseAhead(file string) parser {
	type parsed struct {
		sources   []appliance.Source
		appliance *appliance.Appliance
		err       error
	}
	ahead := make(chan parsed, 1)
	go func() {
		defer close(ahead)
		if sources, err := appliance.ReadSources(file); err == nil {
			a, err := appliance.Parse(sources)
			ahead <- parsed{sources, a, err}
		}
	}()
	return func(sources []appliance.Source) (*appliance.Appliance, error) {
		if p, ok := <-ahead; ok && reflect.DeepEqual(p.sources, sources) {
			return p.appliance, p.err
		}
		return appliance.Parse(sources)
	}
}

func compileSources(list []appliance.Source, facts plan.Facts, parse parser) (*plan.Plan, error) {
	a, err := parse(list)
	if err != nil {
		return nil, err
	}
	return plan.Compile(a, facts, step.Kinds())
}

// firstProblems is the first line of what is wrong, and how many there are.
func firstProblems(err error) string {
	var list *appliance.Problems
	if !errors.As(err, &list) || len(list.List) == 0 {
		return strings.SplitN(err.Error(), "\n", 2)[0]
	}
	s := list.List[0].String()
	if n := len(list.List) - 1 + list.More; n > 0 {
		s += fmt.Sprintf(" (and %d more; initd check shows all)", n)
	}
	return s
}

// emptyPlan has nothing but ready.
func emptyPlan() *plan.Plan {
	a := &appliance.Appliance{Name: "appliance"}
	p, err := plan.Compile(a, plan.Facts{}, nil)
	if err != nil {
		panic("an empty plan does not compile: " + err.Error())
	}
	return p
}

// keepPlan writes the plan to the state disk once it has reached ready.
func (o *orchestrator) keepPlan(ctx context.Context) {
	if !o.chosen.current || o.stateDir == "" {
		return
	}
	select {
	case <-o.engine.Load().ReadyC():
	case <-ctx.Done():
		return
	}
	keep, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := step.KeepPlan(keep, o.children, o.stateDir, o.chosen.plan); err != nil {
		o.note(err.Error())
	}
}

// keepMargin is what a way down that follows ready at once gives the plan to
// get to the state disk.
const keepMargin = 5 * time.Second

// awaitKept: a boot that was ready and is told to go down leaves its plan.
func (o *orchestrator) awaitKept(kept <-chan struct{}) {
	select {
	case <-o.engine.Load().ReadyC():
	default:
		return
	}
	select {
	case <-kept:
	case <-time.After(keepMargin):
	}
}
