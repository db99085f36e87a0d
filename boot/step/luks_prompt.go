package step

import (
	"context"
	"errors"
	"fmt"
	"os"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/luks"
)

// byPeople opens a volume whose key somebody knows: with what was fed, with an
// answer to its question, or with an answer to the question of another volume
// that waits too. A key that does not fit is said at once, and the question
// comes again; nothing but the end of ctx or another failure ends it.
func (a *luksAction) byPeople(ctx context.Context, u *plan.Unit, s luksSpec, p openParams, progress func(engine.Progress)) error {
	desk := a.deps.Desk
	me := desk.sit(s.Name, p)
	defer desk.leave(me)
	t := &trial{a: a, u: u, s: s, me: me, progress: progress}
	for {
		fed := a.deps.Keys.Fed(s.Name) // first: nothing is missed
		if f := a.deps.Keys.Get(s.Name); f != nil {
			err := t.fed(ctx, f)
			f.Close()
			if !noMatch(err) {
				return err
			}
			continue
		}
		t.waits()
		by := ""
		switch err := desk.turn(ctx, me, fed, &by); {
		case errors.Is(err, errFed):
			continue
		case errors.Is(err, errOpened):
			progress(engine.Progress{Text: "opened by the answer for " + by})
			return nil
		case err != nil:
			return err
		}
		over, err := t.turn(ctx, fed)
		if over {
			return err
		}
		if err != nil { // no console: the key can still be fed
			a.deps.Note(fmt.Sprintf("%s: %v; initd keys unlock %s feeds it", u.ID, err, s.Name))
			select {
			case <-fed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// trial is one volume and the keys that people give for it.
type trial struct {
	a        *luksAction
	u        *plan.Unit
	s        luksSpec
	me       *seat
	progress func(engine.Progress)
	wrong    int // keys that did not fit
}

// waits tells the report what is waited for.
func (t *trial) waits() {
	text := "an answer at the console, or: initd keys unlock " + t.s.Name
	switch {
	case t.wrong == 1:
		text = "another key, for the one given does not open it: " + text
	case t.wrong > 1:
		text = fmt.Sprintf("another key, for the %d given do not open it: %s", t.wrong, text)
	}
	t.progress(engine.Progress{Waiting: text, Object: t.me.open.Device})
}

// fed tries a key that came through initd keys unlock, or that an
// orchestrator before this one left.
func (t *trial) fed(ctx context.Context, f *os.File) error {
	select {
	case <-t.me.trial:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { t.me.trial <- struct{}{} }()
	return t.judge(t.try(ctx, f, nil))
}

// judge drops a key that has done its work, or does not fit.
func (t *trial) judge(err error) error {
	if err == nil || noMatch(err) {
		t.a.deps.Keys.Drop(t.s.Name)
	}
	if noMatch(err) {
		t.wrong++
	}
	return err
}

// turn asks until an answer opens the volume. over: that, or an error of the
// volume; else the turn ended (err nil), or nobody can be asked (err).
func (t *trial) turn(ctx context.Context, fed <-chan struct{}) (over bool, err error) {
	desk := t.a.deps.Desk
	defer desk.done()
	remark := ""
	if t.wrong > 0 {
		remark = "That did not open " + t.s.Name + ". "
	}
	for {
		f, err := t.ask(ctx, fed, remark+t.s.Prompt)
		switch {
		case ctx.Err() != nil:
			closeFile(f)
			return true, context.Cause(ctx)
		case errors.Is(err, errFed), errors.Is(err, errHeld):
			return false, nil
		case err != nil:
			return false, err
		}
		if err := t.answered(ctx, f); !noMatch(err) {
			return true, err
		}
		remark = "That did not open " + t.s.Name + ". "
		fed = t.a.deps.Keys.Fed(t.s.Name)
		t.waits()
	}
}

func (t *trial) ask(ctx context.Context, fed <-chan struct{}, question string) (*os.File, error) {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-fed:
			cancel(errFed)
		case <-over:
		}
	}()
	return t.a.deps.Desk.Ask(asking, t.a.deps.Children, t.u.ID, question)
}

// answered tries an answer on this volume, and quietly on all that wait.
func (t *trial) answered(ctx context.Context, f *os.File) error {
	select {
	case <-t.me.trial:
	case <-ctx.Done():
		f.Close()
		return context.Cause(ctx)
	}
	defer func() { t.me.trial <- struct{}{} }()
	own, err := dup(f)
	if err != nil {
		f.Close()
		return err
	}
	defer own.Close()
	// The store has it while it is tried: a successor of this process goes on with it.
	if err := t.a.deps.Keys.Put(t.s.Name, f); err != nil {
		t.a.deps.Note(err.Error())
	}
	others := t.a.deps.Desk.others(t.me)
	defer func() {
		for _, o := range others {
			o.trial <- struct{}{}
		}
	}()
	return t.judge(t.try(ctx, own, others))
}

// try opens this volume with the key in f, and those of others that it fits.
func (t *trial) try(ctx context.Context, f *os.File, others []*seat) error {
	t.progress(engine.Progress{Object: t.me.open.Device})
	params := []openParams{t.me.open}
	for _, o := range others {
		params = append(params, o.open)
	}
	for i := range params {
		params[i].Key = 0
	}
	var own error
	tell := func(n int, p engine.Progress) {
		if n == 0 {
			t.progress(p)
		}
	}
	t.a.run(ctx, t.u.ID, params, []*os.File{f}, tell, func(n int, err error) {
		switch {
		case n == 0:
			own = err
		case err == nil:
			others[n-1].opened <- t.s.Name
		}
	})
	return own
}

// noMatch tells that a key fits none of a volume's slots.
func noMatch(err error) bool {
	var c *ChildError
	return errors.As(err, &c) && c.CodeText == (&luks.NoMatchingKeyError{}).Code()
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
