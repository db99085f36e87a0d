// Package multipath puts one device mapper map above the disks by which several paths show the same medium.
//
// It owns the map's table (all paths in one group, the one with the shortest service time first; I/O waits while none is left), its
// name and its UUID, which is the one that multipath-tools know it by, and its reload as paths come and come back. A path that fails the
// kernel leaves by itself. It needs dm-multipath and dm-service-time. It never makes a map where multipathd runs, and it
// does not watch: whoever has the paths says when they change.
package multipath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"initd/hw/dm"
	"initd/hw/sysfs"
)

// Leg is one path: a disk by its kernel name.
type Leg struct {
	Name    string // sda
	Dev     string // 8:0
	Sectors uint64 // of 512 bytes
	WWID    string // as the kernel has it
}

// ReadLeg reads a disk.
func ReadLeg(sys *sysfs.FS, name string) (Leg, error) {
	l := Leg{Name: name}
	var err error
	at := "sys/class/block/" + name
	if l.Dev, err = sys.String(at + "/dev"); err != nil {
		return l, fmt.Errorf("multipath: %s: %w", name, err)
	}
	if l.Sectors, err = sys.Uint(at + "/size"); err != nil {
		return l, fmt.Errorf("multipath: %s: %w", name, err)
	}
	if l.WWID, err = sys.String(at + "/device/wwid"); err != nil {
		return l, fmt.Errorf("multipath: %s has no identity of its own, so that nobody can tell whether it is the same as another: %w", name, err)
	}
	return l, nil
}

// MismatchError says that disks are not the same medium.
type MismatchError struct{ A, B Leg }

func (e *MismatchError) Error() string {
	if e.A.WWID != e.B.WWID {
		return fmt.Sprintf("%s (%s) and %s (%s) are not the same disk", e.A.Name, e.A.WWID, e.B.Name, e.B.WWID)
	}
	return fmt.Sprintf("%s has %d sectors, %s has %d: one of them is not what it says", e.A.Name, e.A.Sectors, e.B.Name, e.B.Sectors)
}

// Code is the stable code of this error.
func (*MismatchError) Code() string { return "MULTIPATH-MISMATCH" }

// Hint says what to do.
func (*MismatchError) Hint() string {
	return "look whether all portals lead to the same target, and which serial numbers it gives its LUNs"
}

// ErrDaemon says that multipathd runs, whose maps these are then.
var ErrDaemon = errors.New("multipathd runs on this machine, and makes the maps")

// UUID is the map's identity, as multipath-tools have it.
func UUID(wwid string) string {
	for prefix, digit := range map[string]string{"naa.": "3", "eui.": "2", "t10.": "1"} {
		if rest, ok := strings.CutPrefix(wwid, prefix); ok {
			return "mpath-" + digit + strings.ReplaceAll(strings.TrimSpace(rest), " ", "_")
		}
	}
	return "mpath-" + wwid
}

// Table is the map over some legs; the error is a *MismatchError.
func Table(legs []Leg) (dm.Target, error) {
	if len(legs) == 0 {
		return dm.Target{}, errors.New("multipath: a map over no disks")
	}
	legs = slices.Clone(legs)
	slices.SortFunc(legs, func(a, b Leg) int { return cmp.Compare(a.Dev, b.Dev) })
	var paths strings.Builder
	for _, l := range legs {
		if l.WWID != legs[0].WWID || l.Sectors != legs[0].Sectors {
			return dm.Target{}, &MismatchError{legs[0], l}
		}
		fmt.Fprintf(&paths, " %s 1", l.Dev)
	}
	return dm.Target{Length: legs[0].Sectors, Type: "multipath",
		Params: fmt.Sprintf("1 queue_if_no_path 0 1 1 service-time 0 %d 1%s", len(legs), paths.String())}, nil
}

// Find returns the map above a medium, whoever made it; ok is false if there is none.
func Find(sys *sysfs.FS, wwid string) (name string, ok bool) {
	blocks, err := sys.Names("sys/class/block")
	if err != nil {
		return "", false
	}
	for _, b := range blocks {
		if !strings.HasPrefix(b, "dm-") {
			continue
		}
		if uuid, err := sys.String("sys/class/block/" + b + "/dm/uuid"); err != nil || uuid != UUID(wwid) {
			continue
		}
		if size, err := sys.Uint("sys/class/block/" + b + "/size"); err != nil || size == 0 {
			continue // made, and no table yet
		}
		if name, err := sys.String("sys/class/block/" + b + "/dm/name"); err == nil {
			return name, true
		}
	}
	return "", false
}

// Ensure makes a map of that name over the legs, or gives the one that is there these legs: all of them count as good again.
// I/O that waits goes on. ErrDaemon where multipathd runs and has none yet.
func Ensure(ctx context.Context, sys *sysfs.FS, name string, legs []Leg) error {
	table, err := Table(legs)
	if err != nil {
		return err
	}
	have, there := Find(sys, legs[0].WWID)
	if daemon(sys) {
		if there {
			return nil
		}
		return fmt.Errorf("multipath: %s: %w", name, ErrDaemon)
	}
	if there {
		name = have
	} else if err := dm.Create(name, UUID(legs[0].WWID)); err != nil && !errors.Is(err, dm.ErrExists) {
		return err
	}
	if err := dm.LoadTargets(name, table); err != nil {
		return err
	}
	if there {
		return dm.Replace(ctx, name)
	}
	return dm.Resume(ctx, name)
}

// daemon tells whether multipathd listens (its sockets, multipath-tools: libmpathcmd/mpath_cmd.h; the second since 0.10).
func daemon(sys *sysfs.FS) bool {
	b, err := sys.Bytes("proc/net/unix", 8<<20)
	return err == nil && (strings.Contains(string(b), "@/org/kernel/linux/storage/multipathd") || strings.Contains(string(b), "/multipathd.socket"))
}
