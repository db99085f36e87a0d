package kmod

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs"
)

// Modaliases returns what the devices of the machine call themselves, sorted, each once. A modalias matches the
// patterns of the modules that drive such a device. machine holds the directory sys.
func Modaliases(machine fs.FS) ([]string, error) {
	var list []string
	// Links are not followed: they lead to the same devices again.
	err := fs.WalkDir(machine, "sys/devices", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a device that has gone
		case err != nil:
			return err
		case e.IsDir() || path.Base(name) != "modalias":
			return nil
		}
		// Devices without a name of their own have an empty file, or one that cannot be read.
		if alias, err := sysfs.New(machine).String(name); err == nil && alias != "" {
			list = append(list, alias)
		}
		return nil
	})
	slices.Sort(list)
	return slices.Compact(list), err
}

// Coldplug answers which modules drive the devices with these modaliases. Devices that no module drives, or whose driver
// is built in, add nothing: that is the common case and no error.
func (x *Index) Coldplug(modaliases []string) Resolution {
	known := slices.DeleteFunc(slices.Clone(modaliases), func(alias string) bool {
		_, err := x.Lookup(alias)
		return err != nil
	})
	r, _ := x.Resolve(known...)
	return r
}

// Coldplug loads what drives the devices of the machine. A driver that does not load is in the error; the others are
// loaded all the same. One that finds after all that there is nothing for it (ENODEV: a processor's modalias matches
// more than it has) is no error.
func (l *Loader) Coldplug(ctx context.Context) error {
	all, err := Modaliases(l.sys.FS())
	if err != nil {
		return err
	}
	// What makes the processor faster takes its time (self-tests of ciphers), and drives no device: it does not hold those up.
	var devices, processor []string
	for _, alias := range all {
		if strings.HasPrefix(alias, "cpu:") {
			processor = append(processor, alias)
		} else {
			devices = append(devices, alias)
		}
	}
	var errs [2]error
	var both sync.WaitGroup
	for i, list := range [][]string{devices, processor} {
		both.Go(func() { errs[i] = l.coldplug(ctx, list) })
	}
	both.Wait()
	return errors.Join(errs[:]...)
}

func (l *Loader) coldplug(ctx context.Context, aliases []string) error {
	var errs []error
	for _, alias := range aliases {
		if _, err := l.index.Lookup(alias); err != nil {
			continue
		}
		if err := l.Load(ctx, alias); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
