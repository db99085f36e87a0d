package client

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Process is one that init started.
type Process struct {
	ID    uint64 // names it in this boot
	PID   int
	PIDFD *os.File // nil once it has ended; the caller closes it
}

// Listed is a process that init knows.
type Listed struct {
	wire.Service
	PIDFD *os.File // nil once it has ended; the caller closes it
}

// Spawn starts a program under a name that no other process has. group is its
// cgroup: "services/redis". files go to the descriptors that spec.Files
// names, in the same order, and stay open here.
func (c *Client) Spawn(ctx context.Context, name, group string, spec *wire.Spec, files ...*os.File) (Process, error) {
	b, err := spec.Encode()
	if err != nil {
		return Process{}, fmt.Errorf("init: spawn %s: %w", name, err)
	}
	mem, err := sealed(b)
	if err != nil {
		return Process{}, fmt.Errorf("init: spawn %s: %w", name, err)
	}
	defer mem.Close()
	replies, err := c.ask(ctx, "spawn", name, &wire.Spawn{Name: name, Group: group}, append([]*os.File{mem}, files...)...)
	if err != nil {
		return Process{}, err
	}
	r := replies[0]
	m, ok := r.msg.(*wire.Spawned)
	if !ok {
		return Process{}, &Error{Op: "spawn", Name: name, Errno: unix.EPROTO}
	}
	return Process{ID: m.ID, PID: int(m.PID), PIDFD: one(r.fds, "pidfd")}, nil
}

// Signal sends a signal to a process, or to its whole cgroup.
func (c *Client) Signal(ctx context.Context, id uint64, s unix.Signal, whole bool) error {
	_, err := c.ask(ctx, "signal", fmt.Sprintf("process %d", id), &wire.Signal{ID: id, Number: uint32(s), Whole: whole})
	return err
}

// Ack lets init forget a process that has ended, with its cgroup.
func (c *Client) Ack(ctx context.Context, id uint64) error {
	_, err := c.ask(ctx, "acknowledge", fmt.Sprintf("process %d", id), &wire.Ack{ID: id})
	return err
}

// List returns what init keeps: processes, oldest first, and the names of the
// stored descriptors.
func (c *Client) List(ctx context.Context) ([]Listed, []wire.Stored, error) {
	replies, err := c.ask(ctx, "list", "", &wire.List{})
	if err != nil {
		return nil, nil, err
	}
	var ps []Listed
	var ds []wire.Stored
	for _, r := range replies {
		switch m := r.msg.(type) {
		case *wire.Service:
			ps = append(ps, Listed{Service: *m, PIDFD: one(r.fds, "pidfd")})
		case *wire.Stored:
			ds = append(ds, *m)
		}
	}
	return ps, ds, nil
}

// Store keeps a copy of f under a name, over the death of this process.
func (c *Client) Store(ctx context.Context, name string, flags uint32, f *os.File) error {
	_, err := c.ask(ctx, "store", name, &wire.Store{Name: name, Flags: flags}, f)
	return err
}

// Fetch returns a copy of a stored descriptor. An error that is unix.ENOENT:
// there is none.
func (c *Client) Fetch(ctx context.Context, name string) (*os.File, error) {
	replies, err := c.ask(ctx, "fetch", name, &wire.Fetch{Name: name})
	if err != nil {
		return nil, err
	}
	if f := one(replies[0].fds, name); f != nil {
		return f, nil
	}
	return nil, &Error{Op: "fetch", Name: name, Errno: unix.EPROTO}
}

// Drop closes a stored descriptor.
func (c *Client) Drop(ctx context.Context, name string) error {
	_, err := c.ask(ctx, "drop", name, &wire.Drop{Name: name})
	return err
}

// Heartbeat tells init that the engine's own loop turns. Nothing answers it,
// and it does not wait for init.
func (c *Client) Heartbeat() error {
	c.mu.Lock()
	c.beats++
	n, err := c.beats, c.err
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.send(wire.Record{Message: &wire.Heartbeat{Count: n}}, nil)
}

// Watchdog opens and arms a device; an empty one means that which is open.
// Zero leaves the driver's timeout.
func (c *Client) Watchdog(ctx context.Context, device string, timeout time.Duration) error {
	_, err := c.ask(ctx, "watchdog", device, &wire.Watchdog{Device: device, Timeout: uint32(timeout / time.Second)})
	return err
}

// CloseWatchdog disarms it.
func (c *Client) CloseWatchdog(ctx context.Context) error {
	_, err := c.ask(ctx, "close watchdog", "", &wire.Watchdog{Close: true})
	return err
}

// Failure tells whether the failure screen is up, and whether somebody types:
// the watchdog is fed for a limited time from then on.
func (c *Client) Failure(ctx context.Context, active, typing bool) error {
	_, err := c.ask(ctx, "failure", "", &wire.Failure{Active: active, Typing: typing})
	return err
}

// Going tells that this orchestrator takes the machine down, within a time
// after which init does it alone. Kind zero takes it back.
func (c *Client) Going(ctx context.Context, kind wire.Kind, within time.Duration) error {
	_, err := c.ask(ctx, "go down", kind.String(), &wire.Going{Kind: kind, Within: uint32(within / time.Millisecond)})
	return err
}

// Reboot is the last request: init ends whatever is left and calls reboot(2).
// It returns when init has heard it, which includes ErrLost.
func (c *Client) Reboot(ctx context.Context, kind wire.Kind) error {
	_, err := c.ask(ctx, "reboot", kind.String(), &wire.Reboot{Kind: kind})
	return err
}

// Restart lets init start another orchestrator as soon as this process has
// exited, which it is to do within 30 s. path is the program; empty: the same.
func (c *Client) Restart(ctx context.Context, path string) error {
	_, err := c.ask(ctx, "restart", path, &wire.Restart{Path: path})
	return err
}

// SwitchRoot lets init hand the machine over to the init of another root as
// soon as this process has exited, which it is to do within 30 s.
func (c *Client) SwitchRoot(ctx context.Context, q wire.SwitchRoot) error {
	_, err := c.ask(ctx, "switch to the root", q.Root, &q)
	return err
}

// one wraps the first descriptor, and closes any other.
func one(fds []int, name string) *os.File {
	if len(fds) == 0 {
		return nil
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), name)
}

// sealed returns a memfd that cannot change any more.
func sealed(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("initd-spec", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "initd-spec")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal", err)
	}
	return f, nil
}
