package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/block"
	"initd/hw/iscsi"
	"initd/hw/sysfs"
	"initd/hw/uevent"
)

// found is a disk that was proved to be the one that is meant.
type found struct {
	block.Device
	// WWID is what the disk says of itself, by which it is known again whatever it is called; empty if it says nothing.
	WWID string
	// Session is the iSCSI session it belongs to, if that was asked for.
	Session *iscsi.Session
}

// wait waits until the disk is there, hearing the kernel's events; reason is told whenever it changes.
func wait(ctx context.Context, sys *sysfs.FS, d Disk, most time.Duration, reason func(string)) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		return found{}, fmt.Errorf("wait for %s: %w", d, err)
	}
	last := ""
	for {
		f, err := look(sys, d)
		absent, ok := errors.AsType[*absence](err)
		if !ok {
			return f, err
		}
		if absent.why != last {
			last = absent.why
			reason(last)
		}
		for relevant := false; !relevant; {
			select {
			case e, ok := <-events:
				if !ok {
					if ctx.Err() == nil {
						return found{}, fmt.Errorf("wait for %s: the kernel's events have ended", d)
					}
					events = nil // they end with ctx, which says why
					continue
				}
				relevant = e.Action == uevent.Overflow || slices.Contains([]string{"block", "iscsi_session", "iscsi_connection", "scsi"}, e.Subsystem)
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					e := &Error{Kind: NotThere, Disk: d.String(), What: fmt.Sprintf("not there after %v: %s", most, last)}
					if d.Device == "" {
						e.Do = "log in to the target, or see what it exports to this initiator"
					}
					return found{}, e
				}
				return found{}, context.Cause(ctx)
			}
		}
	}
}

// absence is why a disk is not there yet.
type absence struct{ why string }

func (a *absence) Error() string { return a.why }

// look finds the disk as things are now: an *absence if it is not there, an *Error if what is there is another one.
func look(sys *sysfs.FS, d Disk) (found, error) {
	if d.Device != "" {
		return lookDevice(sys, d)
	}
	said := d.iscsi()
	sessions, err := iscsi.SessionsOf(sys, said.IQN)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found{}, fmt.Errorf("look for %s: %w", d, err)
	}
	portal := joinPort(said.Address, said.Port)
	var session *iscsi.Session
	elsewhere := ""
	for i, s := range sessions {
		switch {
		case s.Portal != portal:
			elsewhere = s.Portal
		case session == nil || slices.ContainsFunc(s.Disks, func(k iscsi.Disk) bool { return k.LUN == said.LUN }):
			session = &sessions[i]
		}
	}
	switch {
	case session == nil && elsewhere != "":
		return found{}, &absence{fmt.Sprintf("the session with %s is by %s, and none is by %s", said.IQN, elsewhere, portal)}
	case session == nil:
		return found{}, &absence{fmt.Sprintf("there is no session with %s by %s", said.IQN, portal)}
	case !session.LoggedIn():
		return found{}, &absence{fmt.Sprintf("the session with %s is not logged in (%s %s)", said.IQN, session.State, session.Conn)}
	}
	i := slices.IndexFunc(session.Disks, func(k iscsi.Disk) bool { return k.LUN == said.LUN })
	if i < 0 {
		return found{}, &absence{fmt.Sprintf("the session with %s shows no disk as LUN %d", said.IQN, said.LUN)}
	}
	dev, err := block.Read(sys, session.Disks[i].Name)
	if err != nil || dev.Size == 0 {
		return found{}, &absence{fmt.Sprintf("LUN %d of %s is not ready", said.LUN, said.IQN)}
	}
	return prove(sys, d, found{Device: dev, Session: session})
}

func joinPort(address string, port uint16) string {
	if strings.Contains(address, ":") {
		return fmt.Sprintf("[%s]:%d", address, port)
	}
	return fmt.Sprintf("%s:%d", address, port)
}

func lookDevice(sys *sysfs.FS, d Disk) (found, error) {
	real, err := filepath.EvalSymlinks(d.Device)
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, &absence{"there is no such device"}
	}
	if err != nil {
		return found{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(real, &st); err != nil {
		return found{}, fmt.Errorf("look at %s: %w", d.Device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return found{}, &Error{Kind: WrongDisk, Disk: d.Device, What: "is no block device", Do: "v2v convert writes files"}
	}
	name, err := sys.LinkBase(fmt.Sprintf("sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return found{}, fmt.Errorf("look at %s: %w", d.Device, err)
	}
	dev, err := block.Read(sys, name)
	if err != nil {
		return found{}, fmt.Errorf("look at %s: %w", d.Device, err)
	}
	return prove(sys, d, found{Device: dev})
}

// prove holds a device against everything that was said of it.
func prove(sys *sysfs.FS, d Disk, f found) (found, error) {
	wrong := func(format string, a ...any) (found, error) {
		return found{}, &Error{Kind: WrongDisk, Disk: d.String(), What: fmt.Sprintf(format, a...), Do: "nothing was written"}
	}
	if f.Partition != 0 {
		return wrong("%s is a partition, and an image becomes a whole disk", f.Node())
	}
	if d.Device == "" {
		if !slices.Contains(f.Paths, d.ByPath) {
			return wrong("%s is known to the kernel as %s", f.Node(), strings.Join(f.Paths, ", "))
		}
		// Where udev keeps links, they have to say the same: another tool would follow them.
		if real, err := filepath.EvalSymlinks(byPathDir + d.ByPath); err == nil && real != f.Node() {
			return wrong("the link of that name leads to %s, and the kernel says %s", real, f.Node())
		}
	}
	f.WWID = wwid(sys, f.Device)
	if d.WWID != "" && d.WWID != f.WWID {
		return wrong("%s is %s, and %s was expected", f.Node(), said(f.WWID), d.WWID)
	}
	if f.ReadOnly {
		return wrong("%s is read-only", f.Node())
	}
	return f, nil
}

func said(wwid string) string {
	if wwid == "" {
		return "a disk without an identity"
	}
	return wwid
}

// wwid is what a disk is known by, wherever it turns up.
func wwid(sys *sysfs.FS, dev block.Device) string {
	for _, attr := range []string{"device/wwid", "wwid"} {
		if s, err := sys.String("sys/class/block/" + dev.Name + "/" + attr); err == nil && strings.TrimSpace(s) != "" {
			return strings.Join(strings.Fields(s), " ")
		}
	}
	switch {
	case dev.DM != nil && dev.DM.UUID != "":
		return "dm." + dev.DM.UUID
	case dev.Loop != nil && dev.Loop.BackingFile != "":
		return "loop." + dev.Loop.BackingFile
	}
	if s, err := sys.String("sys/class/block/" + dev.Name + "/serial"); err == nil && strings.TrimSpace(s) != "" {
		return "serial." + strings.TrimSpace(s)
	}
	return ""
}
