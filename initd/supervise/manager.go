package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// Init is what is wanted of PID 1. *client.Client is one.
type Init interface {
	Spawn(ctx context.Context, name, group string, spec *wire.Spec, files ...*os.File) (client.Process, error)
	Signal(ctx context.Context, id uint64, s syscall.Signal, whole bool) error
	Ack(ctx context.Context, id uint64) error
	List(ctx context.Context) ([]client.Listed, []wire.Stored, error)
	Store(ctx context.Context, name string, flags uint32, f *os.File) error
	Fetch(ctx context.Context, name string) (*os.File, error)
	Drop(ctx context.Context, name string) error
	Exits() <-chan wire.Message
}

var _ Init = (*client.Client)(nil)

// Options are what differs between machines.
type Options struct {
	// Run is the folder for state and notify sockets; empty: /run/initd. It is
	// in memory.
	Run string
	// Exists tells whether a path is there; it is asked for paths that may lie
	// on a device, so it belongs into a child. Nil: this process looks.
	Exists func(ctx context.Context, path string) (bool, error)
	// Sink takes what services write; nil: it is only kept for reports.
	Sink Sink
	// Changed hears of each change of a service, in order, from one
	// goroutine.
	Changed func(Status)
}

// answerTime bounds each request to init.
const answerTime = 10 * time.Second

// Manager runs services. It is safe for concurrent use.
type Manager struct {
	init Init
	opt  Options
	out  *queue

	mu      sync.Mutex // guards what follows
	units   map[string]*unit
	owners  map[uint64]owner          // processes by init's number
	early   map[uint64][]wire.Message // about processes whose Spawn is not answered yet
	changes []Status
	stirred chan struct{}
}

// owner hears of a process.
type owner interface{ told(wire.Message) }

// New returns a manager without services. Adopt comes next, then Run.
func New(init Init, opt Options) *Manager {
	if opt.Run == "" {
		opt.Run = "/run/initd"
	}
	if opt.Exists == nil {
		opt.Exists = func(_ context.Context, path string) (bool, error) {
			_, err := os.Stat(path)
			if errors.Is(err, os.ErrNotExist) {
				return false, nil
			}
			return err == nil, err
		}
	}
	return &Manager{
		init: init, opt: opt, out: newQueue(),
		units: map[string]*unit{}, owners: map[uint64]owner{}, early: map[uint64][]wire.Message{}, stirred: make(chan struct{}, 1),
	}
}

// Run hears init until ctx or the connection ends.
func (m *Manager) Run(ctx context.Context) {
	go m.out.run(ctx, m.opt.Sink)
	go m.tellChanges(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case msg, ok := <-m.init.Exits():
			if !ok {
				return
			}
			m.dispatch(msg)
		}
	}
}

func (m *Manager) tellChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.stirred:
		}
		m.mu.Lock()
		list := m.changes
		m.changes = nil
		m.mu.Unlock()
		for _, s := range list {
			if m.opt.Changed != nil {
				m.opt.Changed(s)
			}
		}
	}
}

// changed queues a status for Options.Changed.
func (m *Manager) changed(s Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, s)
	select {
	case m.stirred <- struct{}{}:
	default:
	}
}

// dispatch gives a record to whom it concerns.
func (m *Manager) dispatch(msg wire.Message) {
	id := uint64(0)
	switch r := msg.(type) {
	case *wire.Running:
		id = r.ID
	case *wire.Exited:
		id = r.ID
	}
	m.mu.Lock()
	o := m.owners[id]
	if o == nil {
		m.early[id] = append(m.early[id], msg)
	}
	m.mu.Unlock()
	if o != nil {
		o.told(msg)
	}
}

// own makes o hear of a process, from its beginning.
func (m *Manager) own(id uint64, o owner) {
	m.mu.Lock()
	missed := m.early[id]
	delete(m.early, id)
	m.owners[id] = o
	m.mu.Unlock()
	for _, msg := range missed {
		o.told(msg)
	}
}

// finish ends everything that is left of a process that has exited, and lets
// init forget it.
func (m *Manager) finish(e *wire.Exited) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	_ = m.init.Signal(ctx, e.ID, unix.SIGKILL, true) // ENOTSUP without cgroups: nothing that could be done
	_ = m.init.Ack(ctx, e.ID)                        // an Exited that stays is told to the next orchestrator
	m.mu.Lock()
	delete(m.owners, e.ID)
	m.mu.Unlock()
}

// stray is a process that nobody here wants: a probe of the orchestrator
// before this one.
type stray struct{ m *Manager }

func (s stray) told(msg wire.Message) {
	if e, ok := msg.(*wire.Exited); ok {
		go s.m.finish(e)
	}
}

// Adopt takes over the services that init has from the orchestrator before.
// They go on untouched; one that ended meanwhile is treated as if it ended
// now. It is called once, before Run.
func (m *Manager) Adopt(ctx context.Context) error {
	list, _, err := m.init.List(ctx)
	if err != nil {
		return fmt.Errorf("adopt services: %w", err)
	}
	for _, p := range list {
		name, isService := strings.CutPrefix(p.Group, groupPrefix)
		if isService && name == p.Name {
			m.adopt(ctx, p)
			continue
		}
		if isService {
			_ = m.init.Signal(ctx, p.ID, unix.SIGKILL, true) // a probe; if it has ended, its Exited says so
			m.own(p.ID, stray{m})
		}
		if p.PIDFD != nil {
			p.PIDFD.Close()
		}
	}
	return nil
}

// groupPrefix is where services live below initd's cgroup.
const groupPrefix = "services/"

// unit returns the unit of a name, a new one if there is none.
func (m *Manager) unit(name string) *unit {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.units[name]
	if u == nil {
		u = &unit{m: m, name: name, log: &log{name: name, out: m.out}, phase: Down, moved: make(chan struct{})}
		m.units[name] = u
	}
	return u
}

func (m *Manager) known(name string) *unit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.units[name]
}

// Status returns what is known about a service; a zero Phase: nothing.
func (m *Manager) Status(name string) Status {
	if u := m.known(name); u != nil {
		return u.status()
	}
	return Status{Name: name}
}

// List returns all services that were started or adopted, by name.
func (m *Manager) List() []Status {
	m.mu.Lock()
	var us []*unit
	for _, u := range m.units {
		us = append(us, u)
	}
	m.mu.Unlock()
	sort.Slice(us, func(i, j int) bool { return us[i].name < us[j].name })
	list := make([]Status, len(us))
	for i, u := range us {
		list[i] = u.status()
	}
	return list
}

// Logs returns up to n of the last lines that a service wrote.
func (m *Manager) Logs(name string, n int) []string {
	if u := m.known(name); u != nil {
		return u.log.last(n)
	}
	return nil
}

func (m *Manager) stateFile(name string) string {
	return filepath.Join(m.opt.Run, "services", name+".json")
}
