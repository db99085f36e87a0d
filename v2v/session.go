package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"initd/hw/iscsi"
	"initd/hw/kmod"
	"initd/hw/sysfs"
	"initd/v2v/deploy"
)

// session is the iSCSI session of one deploy: the one that is there, or one that this process makes, keeps and ends.
type session struct {
	chapFile, initiator string
	keep                bool // leave a session that was made here
	note                func(string)

	sys    *sysfs.FS
	kernel *iscsi.Kernel
	made   *iscsi.Record
	dir    string // of the record, as long as there is one
	free   func() // lets go of the lock there, by which others see that this process keeps the session
	stop   func()
}

// sessionDir begins the names of the directories with the records of sessions, one each.
const sessionDir = "/run/v2v-session-"

// login makes a session unless there is one, whoever made it.
func (s *session) login(ctx context.Context, d deploy.Disk) error {
	said, err := deploy.ParseByPath(d.ByPath)
	if err != nil {
		return err
	}
	portal := iscsi.Portal{Host: said.Address, Port: int(said.Port), Tag: -1}
	if s.sys == nil {
		if s.sys, err = sysfs.Open("/"); err != nil {
			return err
		}
	}
	list, err := iscsi.SessionsOf(s.sys, said.IQN)
	if err != nil {
		return err
	}
	for _, there := range list {
		if there.Portal == portal.Address() {
			return s.adopt(ctx, there) // its LUN may still have to come: that is waited for
		}
	}
	if s.made != nil {
		s.end() // it is gone
	}
	if err := s.open(ctx); err != nil {
		return fmt.Errorf("no session with %s is there, and none can be made: %w", said.IQN, err)
	}
	c := iscsi.Config{Target: said.IQN, Portal: portal, LUNs: []uint64{said.LUN}, Initiator: s.initiator}
	if c.Initiator == "" {
		if c.Initiator, _, err = iscsi.InitiatorName(os.DirFS("/")); err != nil {
			return err
		}
	}
	chap, err := s.chap()
	if err != nil {
		return err
	}
	defer chap.Destroy()
	if s.dir, err = os.MkdirTemp(filepath.Dir(sessionDir), filepath.Base(sessionDir)); err != nil {
		return err
	}
	records := iscsi.RecordsAt(s.dir)
	if s.free, err = records.Lock(false); err != nil {
		return err
	}
	rec, err := s.kernel.Login(ctx, c, chap, func(r iscsi.Record) error {
		s.made = &r
		return records.Write(r)
	})
	if s.made != nil && err == nil {
		s.made = &rec
	}
	if _, ok := errors.AsType[*iscsi.NoLUNError](err); err != nil && !ok {
		s.end()
		return err
	}
	s.supervise(records)
	s.note(fmt.Sprintf("logged in to %s at %s", said.IQN, portal.Address()))
	return nil
}

// adopt takes over a session of a deploy that was killed: nobody else would make its connection anew, or end it. One that is kept, or that
// no deploy made, is used and left alone.
func (s *session) adopt(ctx context.Context, there iscsi.Session) error {
	isid, ours := there.ISID()
	if !ours || s.made != nil {
		return nil
	}
	dirs, err := filepath.Glob(sessionDir + "*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		records := iscsi.RecordsAt(dir)
		rec, err := records.Read(isid.String())
		if err != nil || rec.Session != there.ID {
			continue
		}
		free, err := records.Lock(false)
		if errors.Is(err, iscsi.ErrKept) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.open(ctx); err != nil {
			free()
			return err
		}
		s.dir, s.free, s.made = dir, free, &rec
		s.supervise(records)
		s.note(fmt.Sprintf("took over the session with %s from a deploy that was killed", there.Target))
		return nil
	}
	return nil
}

func (s *session) open(ctx context.Context) error {
	if s.kernel != nil {
		return nil
	}
	loader, err := kmod.System("/")
	if err == nil {
		err = loader.Load(ctx, iscsi.Modules()...)
		loader.Close()
	}
	if err != nil {
		return fmt.Errorf("load the modules of iSCSI: %w", err)
	}
	s.kernel, err = iscsi.OpenKernel(s.sys)
	return err
}

func (s *session) chap() (*iscsi.CHAP, error) {
	if s.chapFile == "" {
		return nil, nil
	}
	f, err := os.Open(s.chapFile)
	if err != nil {
		return nil, fmt.Errorf("--chap-file: %w", err)
	}
	defer f.Close()
	return iscsi.ReadCHAP(f)
}

// supervise makes a lost connection anew for as long as the deploy lasts.
func (s *session) supervise(records iscsi.Records) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	sup := &iscsi.Supervisor{Sys: s.sys, Records: records,
		Recover: func(ctx context.Context, rec iscsi.Record, logout bool) error {
			chap, err := s.chap()
			if err != nil {
				return err
			}
			defer chap.Destroy()
			return s.kernel.Recover(ctx, rec, chap, logout)
		},
		Tell: func(rec iscsi.Record, n iscsi.News) { s.note(fmt.Sprintf("%s: %s", rec.Config.Target, n)) },
	}
	ready := make(chan struct{})
	go func() {
		defer close(ended)
		if err := sup.Run(ctx, ready); err != nil && ctx.Err() == nil {
			s.note(err.Error())
		}
	}()
	select {
	case <-ready:
	case <-ended:
	}
	s.stop = func() {
		cancel()
		<-ended
	}
}

// end ends what was made here, unless it is to be kept.
func (s *session) end() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	if s.made != nil && !s.keep {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.kernel.Logout(ctx, *s.made); err != nil {
			s.note("log out: " + err.Error())
		}
	} else if s.made != nil {
		if err := s.kernel.Release(*s.made); err != nil {
			s.note("leave the session: " + err.Error())
		}
	}
	s.made = nil
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
		s.dir = ""
	}
	if s.free != nil {
		s.free()
		s.free = nil
	}
}

// close frees what is held, after end.
func (s *session) close() {
	s.end()
	if s.kernel != nil {
		s.kernel.Close()
	}
	if s.sys != nil {
		s.sys.Close()
	}
}
