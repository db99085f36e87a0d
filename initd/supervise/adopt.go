package supervise

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// saved is what neither the kernel nor init remembers of a service, for the
// next orchestrator. It is in memory (/run) and holds no secret.
type saved struct {
	Version  int     `json:"version"`
	ID       uint64  `json:"id"` // init's number of the process: another one is another process
	Service  Service `json:"service"`
	Ready    bool    `json:"ready"`
	Restarts int     `json:"restarts"`
	Text     string  `json:"text,omitempty"`
}

const savedVersion = 1

// save writes the state; mu is held. A failure costs a probe after the death
// of this process, no more.
func (u *unit) save() {
	if u.digest == "" {
		return
	}
	s := saved{Version: savedVersion, Service: u.def, Ready: u.phase == Running, Restarts: u.restarts, Text: u.text}
	if u.proc != nil {
		s.ID = u.proc.ID
	}
	b, err := json.Marshal(s)
	if err != nil {
		return
	}
	file := u.m.stateFile(u.name)
	if os.MkdirAll(filepath.Dir(file), 0o700) == nil {
		_ = renameio.WriteFile(file, b, 0o600, renameio.WithTempDir(filepath.Dir(file)))
	}
}

func (m *Manager) load(name string) (saved, bool) {
	var s saved
	b, err := os.ReadFile(m.stateFile(name))
	if err != nil || json.Unmarshal(b, &s) != nil || s.Version != savedVersion || s.Service.Name != name {
		return saved{}, false
	}
	return s, true
}

// adopt takes over one service. Whether it runs or has ended meanwhile is
// seen later, by its Exited.
func (m *Manager) adopt(ctx context.Context, p client.Listed) {
	u := m.unit(p.Name)
	read, err := m.init.Fetch(ctx, u.readName())
	write, err2 := m.init.Fetch(ctx, u.writeName())
	notify, err3 := m.init.Fetch(ctx, u.notifyName())
	u.mu.Lock()
	if err == nil && err2 == nil {
		u.pipe = logPipe{read, write}
		go u.log.follow(read)
	}
	u.adopted = true
	u.proc = &proc{
		Process: client.Process{ID: p.ID, PID: int(p.PID), PIDFD: p.PIDFD}, started: time.Now(), cancel: func() {},
	}
	s, ok := m.load(p.Name)
	switch {
	case ok && s.ID == p.ID:
		u.def, u.digest, u.restarts, u.text = s.Service, s.Service.digest(), s.Restarts, s.Text
		u.resume(p.State, s.Ready)
	case p.State == wire.StateLoading:
		u.move(Loading, "waiting for its program to be loaded")
	default:
		// Nobody remembers how it should be. The plan says so at its Start;
		// until then it is not known to be ready.
		u.def = Service{Name: p.Name, Command: []string{p.Name}}.withDefaults()
		u.move(Starting, "adopted; waiting for its definition")
	}
	if err3 == nil {
		u.notify = notify
		go u.hear(notify)
	}
	u.mu.Unlock()
	m.own(p.ID, u)
}

// resume goes on where the orchestrator before was; mu is held.
func (u *unit) resume(state wire.State, ready bool) {
	switch {
	case ready:
		u.move(Running, "")
	case state == wire.StateLoading:
		u.move(Loading, "waiting for "+u.def.Command[0]+" to be loaded")
	default:
		u.await()
	}
}
