package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"initd/hw/console"
)

// Turn is taken by whoever asks at the console: one question at a time.
type Turn chan struct{}

// NewTurn makes a turn that is free.
func NewTurn() Turn { return make(Turn, 1) }

// ask gets the key called name from whoever answers first: somebody at a
// console, or initd keys unlock.
func (d *Deps) ask(ctx context.Context, unit, name, question string) error {
	fed := d.Keys.Fed(name)
	select {
	case d.Turn <- struct{}{}:
		defer func() { <-d.Turn }()
	case <-fed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := d.Children.Run(asking, Call{Func: "prompt", Unit: unit, Params: question, Progress: func(p ChildProgress) {
			if len(p.Files) == 1 {
				if err := d.Keys.Put(name, p.Files[0]); err != nil {
					d.Note(err.Error())
				}
			}
		}})
		failed <- err
	}()
	select {
	case <-fed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-failed:
		if d.Keys.Has(name) {
			return nil
		}
		if err == nil {
			err = errors.New("nobody answered")
		}
		// Without a console the key can still be fed.
		d.Note(fmt.Sprintf("%s: %v; initd keys unlock %s feeds it", unit, err, name))
	}
	select {
	case <-fed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// promptKey is the child prompt.
func promptKey(ctx context.Context, in *ChildInput) (any, error) {
	var question string
	if err := json.Unmarshal(in.Params, &question); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	if err := protect(); err != nil {
		return nil, err
	}
	names, err := console.Active("/")
	if err != nil {
		return nil, err
	}
	var open []*os.File
	for _, n := range names {
		f, err := os.OpenFile(n, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err == nil {
			open = append(open, f)
		}
	}
	a, err := console.Prompt(ctx, open, question)
	if err != nil {
		return nil, err
	}
	return nil, tellKey(in, a.Secret)
}
