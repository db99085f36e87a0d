package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/iscsi"
	"initd/hw/secret"
	"initd/hw/sysfs"
)

// iscsiPathAction logs in to portals. Every request of the kernel is made in a
// child: they can sleep, and one mutex is above all of them. What the orchestrator
// does itself is to listen to the kernel's events, and to knock at portals.
type iscsiPathAction struct {
	deps   *Deps
	keeper *iscsiKeeper
}

func newISCSIPathAction(d *Deps) engine.Action {
	return &iscsiPathAction{deps: d, keeper: &iscsiKeeper{deps: d}}
}

// Check looks in sysfs: a session of this unit is adopted, whatever state its
// connection is in, for its keeper makes that anew.
func (a *iscsiPathAction) Check(ctx context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[iscsiPathSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	object := s.Config.Target + " at " + s.Config.Portal.Address()
	sys, err := sysfs.Open("/")
	if err != nil {
		return engine.Checked{}, err
	}
	defer sys.Close()
	list, err := iscsi.SessionsOf(sys, s.Config.Target)
	if err != nil {
		return engine.Checked{}, err
	}
	for _, have := range list {
		if have.Portal != s.Config.Portal.Address() {
			continue
		}
		isid, ours := have.ISID()
		if rec, given := a.keeper.records().GivenTo(have); given && rec.Unit == u.ID {
			return engine.Checked{Answer: engine.Same, Reason: "it was given to iscsid for good", Object: object}, nil
		}
		if !ours {
			return engine.Checked{Answer: engine.Foreign, Object: object,
				Reason: fmt.Sprintf("session %d there is another program's (iscsid's, as a rule); end it, or take the target out of one of the two configurations", have.ID)}, nil
		}
		rec, err := a.keeper.records().Read(isid.String())
		if err != nil || rec.Session != have.ID || have.State == "FREE" {
			return engine.Checked{Answer: engine.Partial, Reason: "a session that was not finished", Object: object}, nil
		}
		if rec.Unit != u.ID {
			rec.Unit = u.ID // made by hand, or by another version: kept from here on
			if s.CHAP != nil {
				rec.Key, rec.File = s.CHAP.Key, ""
			}
			if err := a.keeper.records().Write(rec); err != nil {
				return engine.Checked{}, err
			}
		}
		a.keeper.learn(u.ID, s)
		if err := a.keeper.start(ctx); err != nil {
			return engine.Checked{}, err
		}
		if !have.LoggedIn() {
			return engine.Checked{Answer: engine.Same, Reason: "its connection is lost, and is made anew", Object: object}, nil
		}
		return engine.Checked{Answer: engine.Same, Object: object}, nil
	}
	if rec, given := a.keeper.records().GivenBy(u.ID); given {
		return engine.Checked{Answer: engine.Foreign, Object: object,
			Reason: fmt.Sprintf("session %d was given to iscsid for good, and has ended since; log in with iscsiadm, or let initd have it again: rm %s", rec.Session, a.keeper.records().File(rec.ISID))}, nil
	}
	return engine.Checked{Answer: engine.Absent, Object: object}, nil
}

func (a *iscsiPathAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	return engine.ApplyOne(ctx, a, u, progress)
}

// Rollback: a login that fails leaves nothing in the kernel, and what a killed
// one left is Partial, which Apply ends first.
func (a *iscsiPathAction) Rollback(context.Context, *plan.Unit) error { return nil }

// iscsiLoginParams is what the child iscsi-login is given.
type iscsiLoginParams struct {
	Run   string           `json:"run"`
	Parts []iscsiLoginPart `json:"parts"`
}

// iscsiLoginPart is one session. Positions are in the call's files; -1 is none.
type iscsiLoginPart struct {
	Unit     string        `json:"unit"`
	Config   iscsi.Config  `json:"config"`
	CHAP     *chapSpec     `json:"chap,omitempty"`
	Secret   int           `json:"secret"`
	Mutual   int           `json:"mutual"`
	Deadline time.Duration `json:"deadline"`
	// Record is the session to recover; nil: a new one.
	Record *iscsi.Record `json:"record,omitempty"`
	Logout bool          `json:"logout,omitempty"`
	File   string        `json:"file,omitempty"` // with the secrets of a session made by hand
}

// ApplyBatch logs in to portals, all at once, in one child; each is told as it
// comes, and ends alone when it is called off.
func (a *iscsiPathAction) ApplyBatch(ctx context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	fail := func(err error) {
		for i := range us {
			done(i, err)
		}
	}
	if err := a.deps.Modules.Load(ctx, iscsi.Modules()...); err != nil {
		fail(err)
		return
	}
	// Somebody listens before there is a session: else the kernel fails it on the first message to us.
	if err := a.keeper.start(ctx); err != nil {
		fail(err)
		return
	}
	p := iscsiLoginParams{Run: a.deps.Paths.Run}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var which []int
	var specs []iscsiPathSpec
	for i, u := range us {
		s, err := spec[iscsiPathSpec](u.Unit)
		if err == nil {
			err = a.deps.Children.Free(u.Context, u.ID) // one that is stuck must not hold the others back
		}
		if err == nil {
			s.Config.Interface, err = kernelLink(s.Config.Interface, s.Link)
		}
		part := iscsiLoginPart{Unit: u.ID, Config: s.Config, CHAP: s.CHAP, Deadline: time.Duration(u.Policy.Deadline)}
		if err == nil {
			part.Secret, part.Mutual, err = a.keeper.secrets(s.CHAP, &files)
		}
		if err != nil {
			done(i, err)
			continue
		}
		progress(i, engine.Progress{Object: s.Config.Target, Server: s.Config.Portal.Address(), Waiting: "the target's answer"})
		p.Parts, which, specs = append(p.Parts, part), append(which, i), append(specs, s)
	}
	if len(p.Parts) == 0 {
		return
	}
	a.logIn(ctx, us, which, specs, p, files, done)
}

func (a *iscsiPathAction) logIn(ctx context.Context, us []engine.Part, which []int, specs []iscsiPathSpec, p iscsiLoginParams, files []*os.File, done func(int, error)) {
	var mu sync.Mutex
	told := make([]bool, len(p.Parts))
	finish := func(i int, err error) {
		mu.Lock()
		was := told[i]
		told[i] = true
		mu.Unlock()
		if was {
			return
		}
		if err == nil {
			a.keeper.learn(p.Parts[i].Unit, specs[i])
			err = a.keeper.join(ctx, specs[i])
		}
		done(which[i], err)
	}
	objects, parts := make([]string, len(p.Parts)), make([]context.Context, len(p.Parts))
	for i, part := range p.Parts {
		objects[i], parts[i] = part.Unit, us[which[i]].Context
	}
	var joining sync.WaitGroup
	_, err := a.deps.Children.Run(ctx, Call{Func: "iscsi-login", Unit: us[which[0]].ID, Params: p, Files: files, Objects: objects, Parts: parts,
		Progress: func(m ChildProgress) {
			switch {
			case m.Index < 0 || m.Index >= len(p.Parts) || !m.Done:
			case m.Error != nil:
				finish(m.Index, m.Error)
			default:
				joining.Go(func() { finish(m.Index, nil) }) // joining a map takes a child of its own
			}
		}})
	joining.Wait()
	for i := range p.Parts {
		finish(i, cmp.Or(err, errors.New("the child said nothing of this session")))
	}
}

// loginSessions is the child iscsi-login.
func loginSessions(ctx context.Context, in *ChildInput, p iscsiLoginParams) (any, error) {
	host, err := iscsi.OpenHost(p.Run)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	h := &iscsiChild{host}
	var wg sync.WaitGroup
	wanted := in.Parts(ctx, len(p.Parts))
	for i, part := range p.Parts {
		wg.Go(func() {
			m := ChildProgress{Index: i, Done: true, Over: true}
			mine, cancel := wanted[i], func() {}
			if part.Deadline > 0 {
				// Before the engine's own: the reason is better than "killed".
				mine, cancel = context.WithTimeout(mine, part.Deadline-part.Deadline/20)
			}
			if err := h.login(mine, part, in.Files); err != nil {
				m.Error = AsChildError(err)
			}
			cancel()
			in.Tell(m)
		})
	}
	wg.Wait()
	return nil, nil
}

// iscsiChild is the kernel's side, in a child.
type iscsiChild struct{ *iscsi.Host }

func (h *iscsiChild) login(ctx context.Context, part iscsiLoginPart, files []*os.File) error {
	chap, err := chapFrom(part, files)
	if err != nil {
		return err
	}
	defer chap.Destroy()
	if part.Record != nil {
		err := h.Kernel.Recover(ctx, *part.Record, chap, part.Logout)
		if errors.Is(err, iscsi.ErrGone) {
			return &ChildError{CodeText: "ISCSI-GONE", Message: err.Error()}
		}
		return err
	}
	if part.Config.Initiator == "" {
		if part.Config.Initiator, _, err = iscsi.InitiatorName(os.DirFS("/")); err != nil {
			return err
		}
	}
	if err := h.endHalves(ctx, part.Config); err != nil {
		return err
	}
	rec, err := h.Kernel.Login(ctx, part.Config, chap, func(rec iscsi.Record) error {
		rec.Unit = part.Unit
		if part.CHAP != nil {
			rec.Key = part.CHAP.Key
		}
		return h.Records.Write(rec)
	})
	var missing *iscsi.NoLUNError
	if err != nil && rec.ISID != "" {
		if errors.As(err, &missing) { // the session is good, but nobody wants it without its disk: the next attempt looks anew
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			err = errors.Join(err, h.Kernel.Logout(bounded, rec))
			cancel()
		}
		err = errors.Join(err, h.Records.Remove(rec.ISID))
	}
	return err
}

// endHalves ends what a killed login left: a session of ours that never
// carried I/O, or of which nobody has a record.
func (h *iscsiChild) endHalves(ctx context.Context, c iscsi.Config) error {
	list, err := iscsi.SessionsOf(h.Sys, c.Target)
	if err != nil {
		return err
	}
	for _, s := range list {
		isid, ours := s.ISID()
		half := ours && s.Portal == c.Portal.Address()
		if !half {
			continue
		}
		if err := h.Kernel.End(ctx, s); err != nil {
			return err
		}
		if err := h.Records.Remove(isid.String()); err != nil {
			return err
		}
	}
	return nil
}

// chapFrom reads the secrets of a part; nil without any.
func chapFrom(part iscsiLoginPart, files []*os.File) (*iscsi.CHAP, error) {
	if part.CHAP == nil {
		return chapFromFile(part.File)
	}
	c := &iscsi.CHAP{User: part.CHAP.User, MutualUser: part.CHAP.MutualUser, Algorithms: part.CHAP.Algorithms}
	for _, s := range []struct {
		at   int
		into **secret.Buffer
	}{{part.Secret, &c.Secret}, {part.Mutual, &c.Mutual}} {
		if s.at < 0 || s.at >= len(files) {
			continue
		}
		b, err := openSecretLine(files[s.at])
		if err != nil {
			c.Destroy()
			return nil, err
		}
		*s.into = b
	}
	return c, nil
}

func chapFromFile(path string) (*iscsi.CHAP, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return iscsi.ReadCHAP(f)
}

// iscsiAction is a target's disks, once enough of its paths are there.
type iscsiAction struct {
	deps *Deps
}

func (a *iscsiAction) records() iscsi.Records { return iscsi.RecordsAt(a.deps.Paths.Run) }

func newISCSIAction(d *Deps) engine.Action { return &iscsiAction{deps: d} }

func iscsiChildren() map[string]ChildFunc {
	return map[string]ChildFunc{"iscsi-login": Takes(loginSessions), "iscsi-map": Takes(mapDisks)}
}

// Check looks whether each LUN has its disk, and its map where there is one.
func (a *iscsiAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[iscsiSpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return engine.Checked{}, err
	}
	defer sys.Close()
	var nodes []string
	for _, l := range s.LUNs {
		node, err := diskNode(sys, a.records(), s.Target, l, s.Multipath)
		if err != nil {
			return engine.Checked{Answer: engine.Partial, Reason: err.Error(), Object: s.Target}, nil
		}
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	answer := engine.Follows // a path has brought the disk
	if s.Multipath {
		answer = engine.Same
	}
	return engine.Checked{Answer: answer, Object: cmp.Or(nodes...)}, nil
}

func (a *iscsiAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[iscsiSpec](u)
	if err != nil {
		return err
	}
	progress(engine.Progress{Object: s.Target})
	if s.Multipath {
		if err := a.deps.Modules.Load(ctx, "dm-mod", "dm-multipath", "dm-service-time"); err != nil {
			return err
		}
		_, err = a.deps.Children.Run(ctx, Call{Func: "iscsi-map", Unit: u.ID, Params: mapParams{Run: a.deps.Paths.Run, Name: s.Name, Target: s.Target, LUNs: s.LUNs},
			Objects: []string{"iscsi-map/" + s.Name}})
		if err != nil {
			return err
		}
		return a.deps.Devices.Settle(ctx) // before that a name of the disk means one of its paths
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer sys.Close()
	for _, l := range s.LUNs {
		if _, err := diskNode(sys, a.records(), s.Target, l, false); err != nil {
			return err
		}
	}
	return nil
}

// Rollback: maps that are half made are Partial, which Apply completes.
func (a *iscsiAction) Rollback(context.Context, *plan.Unit) error { return nil }
