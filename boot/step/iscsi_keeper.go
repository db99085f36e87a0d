package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"initd/boot/plan"
	"initd/hw/iscsi"
	"initd/hw/process"
	"initd/hw/secret"
	"initd/hw/sysfs"
)

// iscsiKeeper has lost connections made anew, for the sessions of this plan and
// those made by hand. It listens and knocks; what asks the kernel is a child.
type iscsiKeeper struct {
	deps *Deps

	mu    sync.Mutex
	ready chan struct{} // nil until it is started; closed when it listens; guarded by mu
	err   error         // why it does not; guarded by mu
	specs map[string]iscsiPathSpec
}

func (k *iscsiKeeper) records() iscsi.Records { return iscsi.RecordsAt(k.deps.Paths.Run) }

// learn says what a unit's session is to be.
func (k *iscsiKeeper) learn(unit string, s iscsiPathSpec) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.specs == nil {
		k.specs = map[string]iscsiPathSpec{}
	}
	k.specs[unit] = s
}

// start begins to keep sessions, once; it returns when the kernel is listened to.
func (k *iscsiKeeper) start(ctx context.Context) error {
	k.mu.Lock()
	if k.ready == nil {
		k.ready = make(chan struct{})
		go k.run(k.ready)
	}
	ready := k.ready
	k.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// fail lets the next start try again.
func (k *iscsiKeeper) fail(ready chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err, k.ready = err, nil
	select {
	case <-ready:
		k.deps.Note(err.Error())
	default:
		close(ready)
	}
}

func (k *iscsiKeeper) run(ready chan struct{}) {
	sys, err := sysfs.Open("/")
	if err != nil {
		k.fail(ready, err)
		return
	}
	defer sys.Close()
	release, err := k.records().Lock(false)
	if errors.Is(err, iscsi.ErrKept) { // initd iscsi keep, by hand: it listens, until it ends
		k.deps.Note(err.Error())
		close(ready)
		release, err = k.records().Lock(true)
	}
	if err != nil {
		k.fail(ready, err)
		return
	}
	defer release()
	s := &iscsi.Supervisor{Sys: sys, Records: k.records(), Recover: k.recover, Tell: k.tell}
	listening := ready
	select {
	case <-ready:
		listening = nil
	default:
	}
	if err := s.Run(k.deps.Life, listening); err != nil && k.deps.Life.Err() == nil {
		k.fail(ready, err)
	}
}

// recover makes one attempt in a child.
func (k *iscsiKeeper) recover(ctx context.Context, rec iscsi.Record, logout bool) error {
	part := iscsiLoginPart{Unit: rec.Unit, Config: rec.Config, Record: &rec, Logout: logout, File: rec.File, Secret: -1, Mutual: -1}
	unit := rec.Unit
	if unit == "" {
		unit = "iscsi"
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	k.mu.Lock()
	s, known := k.specs[rec.Unit]
	k.mu.Unlock()
	if known && s.CHAP != nil {
		part.CHAP = s.CHAP
		var err error
		if part.Secret, part.Mutual, err = k.secrets(s.CHAP, &files); err != nil {
			return err
		}
	}
	var out error
	_, err := k.deps.Children.Run(ctx, Call{Func: "iscsi-login", Unit: unit, Files: files, Objects: []string{"iscsi-session/" + rec.ISID},
		Params: iscsiLoginParams{Run: k.deps.Paths.Run, Parts: []iscsiLoginPart{part}},
		Progress: func(m ChildProgress) {
			if m.Error != nil {
				out = m.Error
			}
		}})
	var told *ChildError
	if errors.As(out, &told) && told.CodeText == "ISCSI-GONE" {
		return iscsi.ErrGone
	}
	return errors.Join(out, err)
}

// tell puts what becomes of a session into the report.
func (k *iscsiKeeper) tell(rec iscsi.Record, n iscsi.News) {
	what := rec.Unit
	if what == "" {
		what = fmt.Sprintf("iSCSI session %d to %s at %s", rec.Session, rec.Config.Target, rec.Config.Portal.Address())
	}
	text := what + ": " + n.String()
	if n.State == iscsi.IsLost && process.Runs("iscsid") {
		text += "; iscsid runs too, takes up every session that it finds, and may get in the way: initd iscsi release --all gives them to it for good"
	}
	k.deps.Note(text)
	switch n.State {
	case iscsi.IsGone:
		if rec.Unit != "" && k.deps.Lose != nil {
			k.deps.Lose(rec.Unit, n.Reason)
		}
	case iscsi.IsRecovered:
		k.mu.Lock()
		s, known := k.specs[rec.Unit]
		k.mu.Unlock()
		if !known {
			return
		}
		ctx, cancel := context.WithTimeout(k.deps.Life, joinTime)
		defer cancel()
		if err := k.join(ctx, s); err != nil && k.deps.Life.Err() == nil {
			k.deps.Note(what + ": it is back, and not in its map: " + err.Error())
		}
	}
}

// joinTime bounds the reload of a map.
const joinTime = 30 * time.Second

// secrets adds the sealed memfds of CHAP to the files of a call, and says where
// they are.
func (k *iscsiKeeper) secrets(c *chapSpec, files *[]*os.File) (own, mutual int, err error) {
	own, mutual = -1, -1
	if c == nil {
		return own, mutual, nil
	}
	for _, s := range []struct {
		key string
		at  *int
	}{{c.Key, &own}, {c.MutualKey, &mutual}} {
		if s.key == "" {
			continue
		}
		f := k.deps.Keys.Get(s.key)
		if f == nil {
			return own, mutual, &ChildError{CodeText: "KEY-GONE", Message: fmt.Sprintf("key %s is not here any more", s.key), ObjectText: s.key, NextText: "initd retry key/" + s.key}
		}
		*s.at = len(*files)
		*files = append(*files, f)
	}
	return own, mutual, nil
}

// join brings the disks of a session into the maps that are there.
func (k *iscsiKeeper) join(ctx context.Context, s iscsiPathSpec) error {
	if !s.Multipath {
		return nil
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer sys.Close()
	there := false
	for _, l := range s.LUNs {
		if _, err := diskNode(sys, k.records(), s.Config.Target, l, true); err == nil {
			there = true
		}
	}
	if !there {
		return nil // the unit of the disks makes them
	}
	unit := plan.ClassISCSI + "/" + s.Name
	_, err = k.deps.Children.Run(ctx, Call{Func: "iscsi-map", Unit: unit, Objects: []string{"iscsi-map/" + s.Name},
		Params: mapParams{Run: k.deps.Paths.Run, Name: s.Name, Target: s.Config.Target, LUNs: s.LUNs}})
	return err
}

// openSecretLine reads a secret of one line: what stands behind its last
// character is no part of it.
func openSecretLine(f *os.File) (*secret.Buffer, error) {
	whole, err := secret.Open(f, 64<<10)
	if err != nil {
		return nil, err
	}
	b := whole.Bytes()
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	if len(b) == whole.Len() {
		return whole, nil
	}
	defer whole.Destroy()
	if len(b) == 0 {
		return nil, errors.New("the secret is empty")
	}
	return secret.From(b)
}
