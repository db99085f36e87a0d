package main

import (
	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// stored is a descriptor that outlives orchestrators.
type stored struct {
	fd    int
	flags uint32
}

// maxStored bounds the store.
const maxStored = 4096

// keep stores a copy of the descriptor that came with a request.
func (m *machine) keep(q *wire.Store, fds []int) error {
	old, had := m.store[q.Name]
	switch {
	case len(fds) != 1:
		return unix.EBADF
	case q.Name == "":
		return unix.EINVAL
	case !had && len(m.store) >= maxStored:
		return unix.ENOSPC
	}
	fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if had {
		unix.Close(old.fd)
	}
	m.store[q.Name] = stored{fd: fd, flags: q.Flags}
	return nil
}

func (m *machine) fetch(seq uint64, name string) error {
	d, ok := m.store[name]
	if !ok {
		return unix.ENOENT
	}
	m.boss.link.send(wire.Record{Seq: seq, Message: &wire.Stored{Name: name, Flags: d.flags}}, d.fd)
	return nil
}

func (m *machine) drop(name string) error {
	d, ok := m.store[name]
	if !ok {
		return unix.ENOENT
	}
	unix.Close(d.fd)
	delete(m.store, name)
	return nil
}

// drain makes room in the pipes that nobody reads while no orchestrator stays
// up: a service that blocks on its log serves nobody. Pipes forget their
// oldest bytes first, and only when they are three quarters full.
func (m *machine) drain() {
	for _, d := range m.store {
		if d.flags&wire.FlagDrain == 0 {
			continue
		}
		held, err := unix.IoctlGetInt(d.fd, unix.TIOCINQ) // as many can be read without waiting
		if err != nil {
			continue
		}
		size, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETPIPE_SZ, 0)
		if err != nil || held < size/4*3 {
			continue
		}
		buf := make([]byte, min(held, size/2))
		_, _ = unix.Read(d.fd, buf)
	}
}
