package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/initd/pid1/wire"
)

const (
	frozenName = "frozen"
	frozenSize = 60 << 20 // bytes of the device that are mapped
	frozenAt   = "/mnt"
)

// frozen: a service's program, and a folder that a child looks at, lie on a device that is suspended. In the first
// generation others start and end meanwhile, then the orchestrator dies; the second one is told who is stuck, and lets
// the device go on.
func (s *story) frozen() error {
	if s.init.Hello().Generation > 1 {
		return s.thaw()
	}
	if err := s.freeze(); err != nil {
		return err
	}
	frozen, err := s.spawn("frozen", "services/frozen", frozenAt+"/program", "wait")
	if err != nil {
		return err
	}
	child, err := s.spawn("child", "children/look", self, "look", frozenAt+"/folder")
	if err != nil {
		return err
	}
	for _, pid := range []int{frozen.PID, child.PID} {
		for state(strconv.Itoa(pid)) != "D" {
			time.Sleep(20 * time.Millisecond) // a state has no event
		}
	}
	s.tell("asleep", map[string]any{"service": read(fmt.Sprintf("/proc/%d/wchan", frozen.PID)), "child": child.PID})
	for n := range 3 {
		name := fmt.Sprintf("other%d", n)
		other, err := s.spawn(name, "services/"+name, self, "exit")
		if err != nil {
			return err
		}
		e, err := s.exited(other.ID)
		if err != nil {
			return err
		}
		s.tell("other", map[string]any{"name": name, "status": e.Status})
	}
	ps, _, err := s.init.List(s.ctx)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.ID == frozen.ID {
			s.tell("frozen", map[string]any{"loading": p.State == wire.StateLoading, "pid": p.PID})
		}
	}
	_ = s.port.Drain()
	os.Exit(1)
	return nil
}

// freeze maps the disk, mounts it, forgets what was read, and suspends it.
func (s *story) freeze() error {
	const disk = "/dev/vda"
	for {
		if _, err := os.Stat(disk); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond) // a fixture: the story is not about how disks appear
	}
	if err := dm.Create(frozenName, ""); err != nil {
		return err
	}
	if err := dm.Load(frozenName, false, devmapper.LinearTable{Length: frozenSize, BackendDevice: disk}); err != nil {
		return err
	}
	if err := dm.Resume(s.ctx, frozenName); err != nil {
		return err
	}
	if err := os.MkdirAll(frozenAt, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dm.Node(frozenName), frozenAt, "ext4", unix.MS_RDONLY, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	return dm.Suspend(frozenName, true)
}

// thaw lets the device go on: the service is loaded, and the child ends of the signal that it got long ago.
func (s *story) thaw() error {
	ps, _, err := s.init.List(s.ctx)
	if err != nil {
		return err
	}
	if err := dm.Resume(s.ctx, frozenName); err != nil {
		return err
	}
	for _, p := range ps {
		switch p.Name {
		case "frozen":
			if _, err := s.await(func(m wire.Message) bool {
				r, ok := m.(*wire.Running)
				return ok && r.ID == p.ID
			}); err != nil {
				return err
			}
			s.tell("thawed", map[string]any{"pid": p.PID})
		case "child":
			e, err := s.exited(p.ID)
			if err != nil {
				return err
			}
			s.tell("child", map[string]any{"status": e.Status})
		}
	}
	return nil
}
