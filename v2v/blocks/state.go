package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"initd/v2v/image"
)

// errAnother refuses a record that does not fit the image.
var errAnother = errors.New("the record of the unfinished image is of another one")

// State is what a checkpoint has to keep besides the tables.
type State struct {
	Next, Cur, Place, Done int64
	// ID is the format's: identifiers, times.
	ID string
}

func (s State) encode() []byte {
	b, _ := json.Marshal(s) // numbers and a string
	return b
}

// DecodeState understands what a checkpoint gave.
func DecodeState(b []byte) (State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return s, err
	}
	if s.Next < 0 || s.Cur < 0 || s.Place < 0 || s.Done < 0 || s.Place > s.Next {
		return s, errors.New("it contradicts itself")
	}
	return s, nil
}

// Creating makes a format's Create and Resume of what begins a writer: with the state of an unfinished image, or nil for a new
// one.
func Creating(format string, begin func(dst image.Target, size int64, opt image.Options, from *State) (image.Writer, error)) (
	create func(context.Context, image.Target, int64, image.Options) (image.Writer, error),
	resume func(context.Context, image.Target, int64, image.Options, []byte) (image.Writer, error),
) {
	create = func(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
		return begin(dst, size, opt, nil)
	}
	resume = func(_ context.Context, dst image.Target, size int64, opt image.Options, b []byte) (image.Writer, error) {
		s, err := DecodeState(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: the record of the unfinished image: %w", dst.Base(), format, err)
		}
		return begin(dst, size, opt, &s)
	}
	return create, resume
}

// Keep makes a checkpoint: what was put is durable, and so is the table up to the last block. id is the format's.
func (g *Grower) Keep(id string) ([]byte, error) {
	if b, any := g.Current(); any {
		to := g.TableEnd(b)
		if _, err := g.F.WriteAt(g.Table[g.stored:to], g.TableAt+g.stored); err != nil {
			return nil, err
		}
		g.stored = to
	}
	if err := g.F.Sync(); err != nil {
		return nil, err
	}
	return State{Next: g.Next, Cur: g.cur, Place: g.place, Done: g.done, ID: id}.encode(), nil
}

// Recover goes on from a checkpoint: what came after it is cut off, and the table is read as it was then.
func (g *Grower) Recover(s State) error {
	if err := g.resume(s); err != nil {
		return err
	}
	b, any := g.Current()
	if !any {
		return nil
	}
	if b >= g.Blocks {
		return errAnother
	}
	if err := image.ReadFull(g.F, g.Table[:g.TableEnd(b)], g.TableAt); err != nil {
		return fmt.Errorf("read the table of the unfinished image: %w", err)
	}
	return nil
}

func (g *Grower) resume(s State) error {
	if s.Next < g.Next || s.Place > 0 && s.Place+g.Block != s.Next || s.Place > 0 && s.Done/g.Block-s.Cur > 1 {
		return errAnother
	}
	g.Next, g.cur, g.place, g.done = s.Next, s.Cur, s.Place, s.Done
	if err := g.F.Truncate(g.Next); err != nil {
		return err
	}
	if in := g.done - g.cur*g.Block; g.place > 0 && in < g.Block {
		return g.F.Zero(g.place+in, g.Block-in)
	}
	return nil
}

// Keep makes a checkpoint: what was put is durable. id is the format's.
func (w *Placed) Keep(id string) ([]byte, error) {
	if err := w.F.Sync(); err != nil {
		return nil, err
	}
	return State{ID: id}.encode(), nil
}
