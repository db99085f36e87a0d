package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"initd/boot/engine"
	"initd/boot/plan"
	"initd/hw/kmip"
)

// keyAction puts keys into the KeyStore. It never sees one: children hand
// sealed memfds over.
type keyAction struct {
	deps *Deps

	mu     sync.Mutex
	health kmip.Health // guarded by mu; what earlier children learned of the servers
}

func newKeyAction(d *Deps) engine.Action {
	return &keyAction{deps: d, health: kmip.Health{}}
}

// Check: a key whose medium is open already is not needed again.
func (a *keyAction) Check(_ context.Context, u *plan.Unit) (engine.Checked, error) {
	s, err := spec[keySpec](u)
	if err != nil {
		return engine.Checked{}, err
	}
	if a.deps.Keys.Has(s.Name) {
		// Who fetched it may have been killed before it was told which object that was.
		object := ""
		if s.KMIP != nil {
			object = s.KMIP.request(u.ID).Selector.String()
		}
		return engine.Checked{Answer: engine.Same, Reason: "key is here", Object: object}, nil
	}
	if a.deps.Volumes.Open(s.Name) {
		return engine.Checked{Answer: engine.Same, Reason: s.Name + " is open, no key needed"}, nil
	}
	return engine.Checked{Answer: engine.Absent}, nil
}

func (a *keyAction) Apply(ctx context.Context, u *plan.Unit, progress func(engine.Progress)) error {
	s, err := spec[keySpec](u)
	if err != nil {
		return err
	}
	if s.KMIP == nil && s.File == "" {
		return fmt.Errorf("%s: the plan names no source for it; it was made by another version", u.ID)
	}
	return engine.ApplyOne(ctx, a, u, progress)
}

// Rollback: a key that did not arrive left nothing.
func (a *keyAction) Rollback(context.Context, *plan.Unit) error { return nil }

// keyFileParams is what the child keyfile is given. Where a file is, the child
// finds out: its folder may be on a disk that does not answer.
type keyFileParams struct {
	Names []string `json:"names"`
	Paths Paths    `json:"paths"`
}

// kmipParams is what the child kmip is given; it finds the servers' files.
type kmipParams struct {
	Paths    Paths          `json:"paths"`
	Config   kmip.Config    `json:"config"`
	Requests []kmip.Request `json:"requests"`
}

// kmipFound is the result for one request.
type kmipFound struct {
	Server  string `json:"server"`
	Address string `json:"address"`
}

// ApplyBatch fetches the keys of one group of servers, or reads key files,
// with one child.
func (a *keyAction) ApplyBatch(ctx context.Context, us []engine.Part, progress func(int, engine.Progress), done func(int, error)) {
	if s, err := spec[keySpec](us[0].Unit); err == nil && s.File != "" {
		a.readFiles(ctx, us, done)
		return
	}
	p := kmipParams{Paths: a.deps.Paths, Config: kmip.Config{Health: a.healthNow()}}
	names := make([]string, len(us))
	for i, u := range us {
		s, err := spec[keySpec](u.Unit)
		if err != nil || s.KMIP == nil {
			for j := range us {
				done(j, errors.Join(fmt.Errorf("%s: not a key from KMIP", u.ID), err))
			}
			return
		}
		names[i] = s.Name
		if i == 0 {
			p.Config.Servers = kmipServers(s.KMIP.Servers)
		}
		p.Requests = append(p.Requests, s.KMIP.request(u.ID))
	}
	finish := onceEach(len(us), done)
	defer whenOff(ctx, us, finish)()
	together := together{finish: finish}
	c := Call{Func: "kmip", Unit: us[0].ID, Params: p, Progress: func(m ChildProgress) {
		switch {
		case m.Index < 0: // an event follows what a server has answered
			together.flush()
			a.observe(m.Result)
			if m.Progress != nil {
				for i := range us {
					progress(i, *m.Progress)
				}
			}
		case m.Index >= len(us):
		case m.Error != nil:
			together.add(m.Index, m.Error)
		case len(m.Files) == 1 && us[m.Index].Context.Err() != nil && ctx.Err() == nil:
			m.Files[0].Close() // nobody wants it any more, or it is fetched anew
		case len(m.Files) == 1:
			var f kmipFound
			_ = json.Unmarshal(m.Result, &f)
			progress(m.Index, engine.Progress{Server: f.Server, Object: p.Requests[m.Index].Selector.String()})
			together.add(m.Index, a.deps.Keys.Put(names[m.Index], m.Files[0]))
		}
	}}
	_, err := a.deps.Children.Run(ctx, c)
	together.flush()
	if err == nil {
		err = errors.New("the child ended without an answer for this key")
	}
	for i := range us {
		finish(i, err)
	}
}

// whenOff lets a unit that is called off hear so at once, though the call goes on
// with its part for the others' sake; until the returned function is called.
func whenOff(ctx context.Context, parts []engine.Part, finish func(int, error)) (stop func()) {
	var stops []func() bool
	for i, p := range parts {
		stops = append(stops, context.AfterFunc(p.Context, func() {
			if ctx.Err() == nil { // else the call says more
				finish(i, context.Cause(p.Context))
			}
		}))
	}
	return func() {
		for _, s := range stops {
			s()
		}
	}
}

// onceEach hears the first result of each part.
func onceEach(n int, done func(int, error)) func(int, error) {
	var mu sync.Mutex
	finished := make([]bool, n)
	return func(i int, err error) {
		mu.Lock()
		was := finished[i]
		finished[i] = true
		mu.Unlock()
		if !was {
			done(i, err)
		}
	}
}

// readFiles reads key files in one child.
func (a *keyAction) readFiles(ctx context.Context, us []engine.Part, done func(int, error)) {
	finish := onceEach(len(us), done)
	p := keyFileParams{Paths: a.deps.Paths}
	var names, objects []string
	var which []int
	for i, u := range us {
		s, err := spec[keySpec](u.Unit)
		if err == nil && s.File == "" {
			err = fmt.Errorf("%s: not a key from a file", u.ID)
		}
		if err == nil && len(us) > 1 {
			err = a.deps.Children.Free(ctx, u.ID) // one that is stuck must not hold the others back
		}
		if err != nil {
			finish(i, err)
			continue
		}
		p.Names, names = append(p.Names, s.File), append(names, s.Name)
		objects, which = append(objects, u.ID), append(which, i)
	}
	if len(which) == 0 {
		return
	}
	together := together{finish: finish}
	_, err := a.deps.Children.Run(ctx, Call{Func: "keyfile", Unit: us[which[0]].ID, Params: p, Objects: objects, Progress: func(m ChildProgress) {
		switch {
		case m.Index < 0 || m.Index >= len(which) || !m.Done:
		case m.Error != nil:
			together.add(which[m.Index], m.Error)
		case len(m.Files) == 1:
			together.add(which[m.Index], a.deps.Keys.Put(names[m.Index], m.Files[0]))
		}
	}})
	together.flush()
	if err == nil {
		err = errors.New("the child ended without this key")
	}
	for _, i := range which {
		finish(i, err)
	}
}

// together holds results back until all that came in a row are there: what
// waits for them can then be opened by one pair of processes.
type together struct {
	finish func(int, error)

	mu   sync.Mutex
	held []held // guarded by mu
}

type held struct {
	i   int
	err error
}

func (t *together) add(i int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = append(t.held, held{i, err})
}

func (t *together) flush() {
	t.mu.Lock()
	list := t.held
	t.held = nil
	t.mu.Unlock()
	for _, h := range list {
		t.finish(h.i, h.err)
	}
}

func (a *keyAction) healthNow() kmip.Health {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := kmip.Health{}
	for k, v := range a.health {
		h[k] = v
	}
	return h
}

func (a *keyAction) observe(raw json.RawMessage) {
	var e kmip.Event
	if json.Unmarshal(raw, &e) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.health.Observe(e)
}

// kmipServers turns the plan's servers into the client's, with files as the
// appliance names them.
func kmipServers(list []kmipServerSpec) []kmip.Server {
	var out []kmip.Server
	for _, s := range list {
		out = append(out, kmip.Server{
			Name: s.Name, Address: s.Address, ServerName: s.ServerName, Timeout: time.Duration(s.Timeout),
			TLS: kmip.TLS{
				CA:   kmip.Source{Path: s.CA},
				Cert: kmip.Source{Path: s.Cert},
				Key:  kmip.KeySource{Path: s.Key},
				Pin:  s.Pin,
			},
		})
	}
	return out
}

func (k *kmipKeySpec) request(id string) kmip.Request {
	return kmip.Request{ID: id, Selector: kmip.Selector{
		UniqueID: k.ID, Name: k.Name, ObjectGroup: k.ObjectGroup, Attributes: k.Attributes,
	}}
}

// located finds the files of servers. It looks, so it belongs in a child, or
// in a command.
func (p Paths) located(servers []kmip.Server) []kmip.Server {
	for i := range servers {
		t := &servers[i].TLS
		t.CA.Path, t.Cert.Path, t.Key.Path = p.resolve(t.CA.Path), p.resolve(t.Cert.Path), p.resolve(t.Key.Path)
	}
	return servers
}

// resolve finds a file that the appliance names: relative paths start from
// the state disk where it has the file, else from beside the appliance file.
func (p Paths) resolve(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	for _, dir := range p.Identity {
		if full := filepath.Join(dir, name); exists(full) {
			return full
		}
	}
	return filepath.Join(p.Config, name)
}
