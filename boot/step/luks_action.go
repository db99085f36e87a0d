package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/luks"
)

// luksAction opens LUKS volumes in pairs of children: luks-open, which has the
// rights, and below it luks-derive, which parses the headers.
type luksAction struct{ deps *Deps }

func newLUKSAction(d *Deps) engine.Action { return &luksAction{deps: d} }

func luksChildren() map[string]ChildFunc {
	return map[string]ChildFunc{"luks-open": Takes(openVolumes), "luks-derive": Takes(deriveKeys), "luks-plain": Takes(openPlain), "prompt": Takes(promptKey)}
}

func (a *luksAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[luksSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	uuid, _ := strings.CutPrefix(string(s.Device), plan.ClassBlock+"/uuid/")
	if uuid == string(s.Device) {
		uuid = ""
	}
	c, err := luks.Check(s.Name, uuid)
	object := "/dev/mapper/" + s.Name
	if dev, err := a.deps.Devices.Device(s.Device); err == nil {
		object = dev // as Apply says, so that a volume's object does not depend on who opened it
	}
	return engine.Checked{Answer: engine.Answer(c.Answer), Reason: c.Reason, Object: object}, err
}

// Apply opens one volume; ApplyBatch does the same for many.
func (a *luksAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	return engine.ApplyOne(ctx, a, u, progress)
}

// Rollback: the children leave nothing of what failed, and what a killed one
// left half made is Partial, which Apply completes.
func (a *luksAction) Rollback(context.Context, *plan.Unit) error { return nil }

// openParams is one volume for luks-open; positions are in the call's files.
type openParams struct {
	Name     string `json:"name"`
	Device   string `json:"device"`
	Header   string `json:"header,omitempty"`
	Key      int    `json:"key"`
	Discards bool   `json:"discards,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// opened is what is told of a volume that was opened.
type opened struct {
	Slot      int    `json:"slot"`
	Cipher    string `json:"cipher"`
	Secondary bool   `json:"secondary,omitempty"`
	Damage    string `json:"damage,omitempty"` // of the header's other copy
}

// note is what is to be told of a header that is half damaged.
func (o opened) note(p openParams) string {
	device := p.Device
	if p.Header != "" {
		device = p.Header
	}
	copies := "second copy of its header"
	if o.Secondary {
		copies = "first copy of its header, the second was used"
	}
	return fmt.Sprintf("something is wrong with the %s (%s); to mend it: cryptsetup repair %s", copies, o.Damage, device)
}

// ApplyBatch opens many with one pair of children, which cannot be divided: a
// volume that is called off is finished first.
func (a *luksAction) ApplyBatch(ctx context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	if err := a.deps.Modules.Load(ctx, luks.ModulesFor("").Required...); err != nil {
		for i := range us {
			done(i, fmt.Errorf("%s: %w", us[i].ID, err))
		}
		return
	}
	_ = a.deps.Modules.Load(ctx, luks.ModulesFor("").Faster...) // they refuse to load on another processor
	var params []openParams
	var files []*os.File
	var which []int
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i, u := range us {
		s, p, err := a.prepare(u.Unit)
		if err == nil {
			err = a.deps.Children.Free(ctx, u.ID) // one that is stuck must not hold the others back
		}
		switch {
		case err != nil:
			done(i, err)
		case s.Ephemeral:
			progress(i, engine.Progress{Object: p.Device})
			_, err := a.deps.Children.Run(ctx, Call{Func: "luks-plain", Unit: u.ID, Params: p, Objects: []string{u.ID}})
			done(i, err)
		case s.Prompt != "": // such a unit is in no batch
			done(i, a.byPeople(u.Context, u.Unit, s, p, func(p engine.Progress) { progress(i, p) }))
		default:
			key, err := a.key(s)
			if err != nil {
				done(i, err)
				continue
			}
			progress(i, engine.Progress{Object: p.Device})
			p.Key = len(files)
			files, params, which = append(files, key), append(params, p), append(which, i)
		}
	}
	if len(params) > 0 {
		a.open(ctx, us, which, params, files, progress, done)
	}
}

func (a *luksAction) prepare(u *plan.Unit) (luksSpec, openParams, error) {
	s, err := spec[luksSpec](u)
	if err != nil {
		return s, openParams{}, err
	}
	p := openParams{Name: s.Name, Discards: s.Discards, ReadOnly: s.ReadOnly}
	if p.Device, err = a.deps.Devices.Device(s.Device); err != nil {
		return s, p, fmt.Errorf("unlock %s: %w", s.Name, err)
	}
	if s.Header != "" {
		if p.Header, err = a.deps.Devices.Device(s.Header); err != nil {
			return s, p, fmt.Errorf("unlock %s: header: %w", s.Name, err)
		}
	}
	return s, p, nil
}

// key gets the key's descriptor.
func (a *luksAction) key(s luksSpec) (*os.File, error) {
	if f := a.deps.Keys.Get(s.Name); f != nil {
		return f, nil
	}
	return nil, &ChildError{
		CodeText: "KEY-GONE", Message: fmt.Sprintf("unlock %s: its key is not here any more", s.Name),
		HintText: "give it by hand, or retry key/" + s.Name, NextText: "initd keys unlock " + s.Name, ObjectText: s.Name,
	}
}

func (a *luksAction) open(ctx context.Context, us []engine.Part, which []int, params []openParams, files []*os.File, progress func(int, engine.Progress), done func(int, error)) {
	tell := func(n int, p engine.Progress) { progress(which[n], p) }
	a.run(ctx, us[which[0]].ID, params, files, tell, func(n int, err error) {
		if err == nil {
			a.deps.Keys.Drop(params[n].Name)
		}
		done(which[n], err)
	})
}

// run opens volumes in one pair of children; done is called once for each.
func (a *luksAction) run(ctx context.Context, unit string, params []openParams, files []*os.File, tell func(int, engine.Progress), done func(int, error)) {
	var mu sync.Mutex
	finished := make([]bool, len(params))
	finish := func(n int, err error) {
		mu.Lock()
		was := finished[n]
		finished[n] = true
		mu.Unlock()
		if was {
			return
		}
		var c *ChildError
		if errors.As(err, &c) {
			if c.Died() { // one error for all of the batch
				own := *c
				own.ObjectText, own.Message = params[n].Name, fmt.Sprintf("unlock %s (%s): %s", params[n].Name, params[n].Device, c.Message)
				c, err = &own, &own
			}
			c.NextText = nextOf(c, params[n].Name)
		}
		if noMatch(err) {
			c.HintText = "initd keys unlock " + params[n].Name + " takes another key"
		}
		done(n, err)
	}
	objects := make([]string, len(params))
	for n, p := range params {
		objects[n] = plan.ClassLUKS + "/" + p.Name
	}
	_, err := a.deps.Children.Run(ctx, Call{Func: "luks-open", Unit: unit, Params: params, Objects: objects, Files: files, Progress: func(m ChildProgress) {
		switch {
		case m.Index < 0 || m.Index >= len(params):
		case m.Progress != nil:
			tell(m.Index, engine.Progress{Text: m.Progress.Text, Object: params[m.Index].Device})
		case !m.Done:
		case m.Error != nil:
			finish(m.Index, m.Error)
		default:
			var o opened
			if json.Unmarshal(m.Result, &o) == nil && o.Damage != "" {
				tell(m.Index, engine.Progress{Object: params[m.Index].Device, Note: o.note(params[m.Index])})
			}
			finish(m.Index, nil)
		}
	}})
	if err == nil {
		err = errors.New("the child ended without a result for this volume")
	}
	for n := range params {
		finish(n, err)
	}
}

// nextOf is the command that helps a volume that was not opened; empty: to
// try again, which the report says by itself.
func nextOf(c *ChildError, name string) string {
	switch {
	case c.CodeText == (&luks.NoMatchingKeyError{}).Code():
		return "initd keys unlock " + name
	case c.Final, // nothing that can be done here mends a header
		c.CodeText == (&luks.TooCostlyError{}).Code(), c.CodeText == (&luks.CrashedError{}).Code():
		return "initd skip " + plan.ClassLUKS + "/" + name
	}
	return ""
}
