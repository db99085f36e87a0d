package supervise

import (
	"context"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"initd/initd/pid1/client"
	"initd/initd/pid1/wire"
)

// spawn asks init for the process. The phase is Loading or Stopping, so nobody
// else changes the pipe or the definition.
func (u *unit) spawn(ctx context.Context) (client.Process, error) {
	spec, err := u.spec()
	if err != nil {
		return client.Process{}, err
	}
	if err := u.connect(ctx); err != nil {
		return client.Process{}, err
	}
	spec.Files = []uint32{1, 2}
	return u.m.init.Spawn(ctx, u.name, groupPrefix+u.name, spec, u.pipe.write, u.pipe.write)
}

// spec is the process that the definition asks for.
func (u *unit) spec() (*wire.Spec, error) {
	a, err := lookup(u.def.User, u.def.Group)
	if err != nil {
		return nil, err
	}
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
	for _, e := range a.env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	if u.def.Ready.Notify {
		env["NOTIFY_SOCKET"] = u.notifyPath()
	}
	for k, v := range u.def.Env {
		env[k] = v
	}
	s := &wire.Spec{
		Argv: u.def.Command, Dir: u.def.Dir, UID: a.uid, GID: a.gid, Groups: a.groups, NoNewPrivs: u.def.NoNewPrivs,
	}
	for k, v := range env {
		s.Env = append(s.Env, k+"="+v)
	}
	sort.Strings(s.Env)
	return s, nil
}

// connect makes what ties the service to this process, and gives it to init
// to keep.
func (u *unit) connect(ctx context.Context) error {
	if u.pipe.read == nil {
		p, err := newLogPipe()
		if err != nil {
			return err
		}
		if err := u.m.init.Store(ctx, u.readName(), wire.FlagDrain, p.read); err != nil {
			p.close()
			return err
		}
		if err := u.m.init.Store(ctx, u.writeName(), 0, p.write); err != nil {
			p.close()
			return err
		}
		u.mu.Lock()
		u.pipe = p
		u.mu.Unlock()
		go u.log.follow(p.read)
	}
	if u.def.Ready.Notify && u.notify == nil {
		f, err := listenNotify(u.notifyPath())
		if err != nil {
			return err
		}
		if err := u.m.init.Store(ctx, u.notifyName(), 0, f); err != nil {
			f.Close()
			return err
		}
		u.mu.Lock()
		u.notify = f
		u.mu.Unlock()
		go u.hear(f)
	}
	return nil
}

// Names in init's descriptor store.
func (u *unit) readName() string   { return "log/" + u.name }
func (u *unit) writeName() string  { return "log/" + u.name + "/w" }
func (u *unit) notifyName() string { return "notify/" + u.name }

func (u *unit) notifyPath() string { return filepath.Join(u.m.opt.Run, "notify", u.name) }

// release gives up what connect made, while the phase is Stopping. The lines
// stay.
func (u *unit) release() {
	u.mu.Lock()
	pipe, notify := u.pipe, u.notify
	u.pipe, u.notify = logPipe{}, nil
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	drop := func(name string) { _ = u.m.init.Drop(ctx, name) } // one that stays is replaced by the next Start
	if pipe.read != nil {
		pipe.close()
		drop(u.readName())
		drop(u.writeName())
	}
	if notify != nil {
		notify.Close()
		_ = os.Remove(u.notifyPath())
		drop(u.notifyName())
	}
	_ = os.Remove(u.m.stateFile(u.name))
}
