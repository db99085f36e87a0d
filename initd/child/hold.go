package child

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"initd/boot/step"
	"initd/hw/process"
)

// hold is what one child has to itself, until its last process is gone.
type hold struct {
	r    *Runner
	fn   string
	unit string
	// file remembers it for the next orchestrator; empty: nothing does.
	file string
	// group is where its processes are; empty: only pid is known.
	group process.Group

	gone   chan struct{} // closed when the last process is gone
	jammed chan struct{} // closed when it was killed and did not go
	jam    sync.Once

	mu      sync.Mutex
	pid     int      // guarded by mu
	objects []string // guarded by mu; "" for a part that is through
}

// remembered is what stands in a hold's file.
type remembered struct {
	Func    string   `json:"func"`
	Unit    string   `json:"unit"`
	Objects []string `json:"objects,omitempty"`
}

// claim waits until nobody works on the objects any more, and takes them. It
// is refused at once where that cannot be awaited.
func (r *Runner) claim(ctx context.Context, c step.Call) (*hold, error) {
	h := &hold{r: r, fn: c.Func, unit: c.Unit, objects: slices.Clone(c.Objects), gone: make(chan struct{}), jammed: make(chan struct{})}
	for {
		r.mu.Lock()
		other := r.holder(c.Objects)
		if other == nil {
			for _, o := range c.Objects {
				r.held[o] = h
			}
			r.mu.Unlock()
			return h, nil
		}
		r.mu.Unlock()
		if err := other.await(ctx, c.Func, c.Unit); err != nil {
			return nil, err
		}
	}
}

// holder returns who has one of the objects; mu is held.
func (r *Runner) holder(objects []string) *hold {
	if r.held == nil {
		r.held = map[string]*hold{}
	}
	for _, o := range objects {
		if h := r.held[o]; h != nil {
			return h
		}
	}
	return nil
}

// await waits until what h has is free again.
func (h *hold) await(ctx context.Context, fn, unit string) error {
	select {
	case <-h.gone:
		return nil
	default:
	}
	select {
	case <-h.gone:
		return nil
	case <-h.jammed:
		return h.stuck(fn, unit)
	case <-ctx.Done():
		pid, wchan := h.sleeper()
		return fmt.Errorf("%s for %s: wait for %s of %s (process %d in %s) to end: %w", fn, unit, h.fn, h.unit, pid, wchan, context.Cause(ctx))
	}
}

// Free returns when no child works on object any more. An error that has
// Stuck() says that one does which cannot be ended; its Freed() is closed when
// that has gone after all.
func (r *Runner) Free(ctx context.Context, object string) error {
	for {
		r.mu.Lock()
		h := r.holder([]string{object})
		r.mu.Unlock()
		if h == nil {
			return nil
		}
		if err := h.await(ctx, "start", object); err != nil {
			return err
		}
	}
}

// through frees the object of one part of a batch.
func (h *hold) through(part int) {
	h.mu.Lock()
	if part < 0 || part >= len(h.objects) || h.objects[part] == "" {
		h.mu.Unlock()
		return
	}
	object := h.objects[part]
	h.objects[part] = ""
	h.mu.Unlock()
	h.remember()
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	if h.r.held[object] == h {
		delete(h.r.held, object)
	}
}

// release frees everything: the last process is gone.
func (h *hold) release() {
	h.r.mu.Lock()
	for o, who := range h.r.held {
		if who == h {
			delete(h.r.held, o)
		}
	}
	h.r.mu.Unlock()
	if h.file != "" {
		_ = os.Remove(h.file) // in memory: one that stays names a group that is gone
	}
	close(h.gone)
}

// killed gives the child grace to go, and then up.
func (h *hold) killed(grace time.Duration) {
	if grace == 0 {
		grace = defaultGrace
	}
	time.AfterFunc(grace, func() {
		select {
		case <-h.gone:
		default:
			h.jam.Do(func() { close(h.jammed) })
		}
	})
}

// started notes who works.
func (h *hold) started(pid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = pid
}

// remember writes the file: what the next orchestrator must not touch as long
// as somebody lives in the group of that name. A failure costs it that
// knowledge, and this one nothing.
func (h *hold) remember() {
	h.mu.Lock()
	defer h.mu.Unlock()
	objects := slices.DeleteFunc(slices.Clone(h.objects), func(o string) bool { return o == "" })
	if h.file == "" || len(objects) == 0 {
		return
	}
	b, err := json.Marshal(remembered{Func: h.fn, Unit: h.unit, Objects: objects})
	if err == nil && os.MkdirAll(filepath.Dir(h.file), 0o700) == nil {
		_ = renameio.WriteFile(h.file, b, 0o600, renameio.WithTempDir(filepath.Dir(h.file)))
	}
}

// pids are the processes of the child, itself and below.
func (h *hold) pids() []int {
	if h.group != "" {
		if list := h.group.PIDs(); len(list) > 0 {
			return list
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return []int{h.pid}
}

// sleeper is the process that does not go, and where it sleeps.
func (h *hold) sleeper() (pid int, wchan string) { return process.Sleeper(h.pids()) }

// stuck is the error of a call of fn for unit that h is in the way of, or is.
func (h *hold) stuck(fn, unit string) *Stuck {
	e := &Stuck{Func: fn, Unit: unit, freed: h.gone}
	e.PID, e.Wchan = h.sleeper()
	return e
}

// Leftover is a child of an orchestrator before this one that is still there.
type Leftover struct {
	Func    string
	Unit    string
	Objects []string
	PID     int
	Wchan   string
}

// Adopt takes over what orchestrators before this one have left: children that
// sleep in the kernel and survived being killed. Until they are gone, no other
// child is started on their objects. Call it before the first Run.
func (r *Runner) Adopt() []Leftover {
	if r.State == "" || r.Cgroup == "" {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(r.State, "*.json"))
	var list []Leftover
	for _, file := range files {
		name := filepath.Base(file)
		h := &hold{
			r: r, file: file, group: process.Group(filepath.Join(r.Cgroup, name[:len(name)-len(".json")])),
			gone: make(chan struct{}), jammed: make(chan struct{}),
		}
		var m remembered
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil || h.group.Empty() {
			_ = os.Remove(file)
			_ = os.Remove(string(h.group))
			continue
		}
		h.fn, h.unit, h.objects = m.Func, m.Unit, m.Objects
		close(h.jammed) // init has killed it, and waited
		r.mu.Lock()
		_ = r.holder(nil)
		for _, o := range h.objects {
			r.held[o] = h
		}
		r.mu.Unlock()
		l := Leftover{Func: m.Func, Unit: m.Unit, Objects: m.Objects}
		l.PID, l.Wchan = h.sleeper()
		list = append(list, l)
		go func() {
			if h.group.AwaitEmpty() == nil {
				_ = os.Remove(string(h.group))
				h.release()
			}
		}()
	}
	return list
}
