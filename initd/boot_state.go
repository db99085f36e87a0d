package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"initd/boot/plan"
	"initd/boot/step"
)

// stateDisk finds, mounts and reads the state disk. Without one its features
// are off, and the report says which.
func (o *orchestrator) stateDisk(ctx context.Context) step.StateFiles {
	r, asked := plan.Resource(plan.DefaultState), o.args.state != ""
	if asked {
		parsed, err := plan.ParseResource(o.args.state)
		if err != nil {
			o.note("initd.state=: " + err.Error())
			return step.StateFiles{}
		}
		r = parsed
	}
	dev, err := o.findState(ctx, r, asked)
	if err == nil {
		err = o.mountState(ctx, dev)
	}
	var files step.StateFiles
	if err == nil {
		reading, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		files, err = step.ReadState(reading, o.children, o.state, o.gen == 1)
	}
	if err != nil {
		text := "no state disk, so no last good plan and no reboot policy: " + err.Error()
		if asked || !errors.Is(err, errNoState) {
			o.note(text)
		}
		return step.StateFiles{}
	}
	o.stateDir = o.state
	return files
}

// errNoState: there is none, and nobody said that there is one.
var errNoState = errors.New("no device has the label initd-state")

// lookTime is for how long devices that do not answer hold up the search for a
// state disk.
const lookTime = 5 * time.Second

func (o *orchestrator) findState(ctx context.Context, r plan.Resource, asked bool) (string, error) {
	look, done := context.WithTimeout(ctx, lookTime)
	defer done()
	dev, err := o.blocks.FindNow(look, r)
	if err == nil {
		return dev, nil
	}
	if !asked {
		return "", fmt.Errorf("%w (%s)", errNoState, strings.TrimPrefix(err.Error(), "label/initd-state: "))
	}
	// Somebody named it: it may come late.
	wait, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("it did not come within 20 s"))
	defer cancel()
	interests := make(chan []plan.Resource, 1)
	interests <- []plan.Resource{r}
	found := ""
	reason := err.Error()
	werr := o.blocks.Watch(wait, interests, func(facts []plan.Fact) {
		for _, f := range facts {
			if f.Present {
				found = f.Attrs["dev"]
				cancel()
			} else {
				reason = f.Reason
			}
		}
	})
	if found != "" {
		return found, nil
	}
	return "", errors.Join(errors.New(reason), werr)
}
