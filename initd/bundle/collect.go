package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"initd/boot/appliance"
	"initd/boot/report"
)

// all collects everything.
func (c *collection) all(ctx context.Context) {
	r := c.boot(ctx)
	c.manifest.Name = machineName(c.machine)
	c.appliance(ctx)
	c.kernel(ctx)
	c.devices(ctx)
	c.network(ctx)
	c.processes(ctx)
	c.versions(ctx)
	c.logs(ctx, r)
}

// boot is what the orchestrator left: events and what follows from them, its
// plan and its ledger.
func (c *collection) boot(ctx context.Context) *report.Report {
	events := filepath.Join(c.machine.Run, "events")
	var r *report.Report
	c.add(ctx, "report.json", "the report: initd status --json", func(context.Context) ([]byte, error) {
		list, err := report.ReadFile(events)
		if err != nil {
			return nil, err
		}
		folded := report.Fold(list)
		var b bytes.Buffer
		if err := folded.JSON(&b); err != nil {
			return nil, err
		}
		r = folded
		return JSON(b.Bytes()), nil
	})
	if r != nil {
		c.add(ctx, "status.txt", "initd status, and initd why for each unit that is not up", func(context.Context) ([]byte, error) {
			return status(r)
		})
	}
	c.add(ctx, "events", "all events of this boot, for initd status --events FILE", func(context.Context) ([]byte, error) {
		b, err := read(events)
		return JSON(b), err
	})
	for _, f := range []struct{ name, file, what string }{
		{"plan.json", "plan.json", "the plan that this boot runs"},
		{"ledger", "ledger", "what has been tried: attempts, operator's stops"},
	} {
		c.add(ctx, f.name, f.what, func(context.Context) ([]byte, error) {
			b, err := read(filepath.Join(c.machine.Run, f.file))
			return JSON(b), err
		})
	}
	return r
}

func status(r *report.Report) ([]byte, error) {
	var b bytes.Buffer
	s := report.Style{All: true}
	err := r.Status(&b, s)
	for _, u := range r.Units {
		if !u.State.OK() && u.State != report.Skipped {
			fmt.Fprintf(&b, "\n---- initd why %s\n", u.ID)
			err = errors.Join(err, r.Why(&b, u.ID, s))
		}
	}
	return Text(b.Bytes()), err
}

// appliance is the files that the plan was made of: the image's, those of the
// state disk, and their layers. Nothing that they name.
func (c *collection) appliance(ctx context.Context) {
	dir := filepath.Dir(c.machine.File)
	state := filepath.Join(c.machine.Run, "state")
	for _, place := range []struct{ name, file, layers string }{
		{"image", c.machine.File, filepath.Join(dir, "appliance.d")},
		{"state-disk", filepath.Join(state, "appliance.yaml"), filepath.Join(state, "appliance.d")},
	} {
		layers, _ := filepath.Glob(filepath.Join(place.layers, "*.yaml"))
		for _, file := range append([]string{place.file}, layers...) {
			if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			name := "appliance/" + place.name + "/" + filepath.Base(file)
			c.add(ctx, name, "appliance file "+file, func(context.Context) ([]byte, error) {
				b, err := read(file)
				if err == nil {
					b, err = appliance.Redact(appliance.Source{Name: file, Data: b}, Redacted)
				}
				return Text(b), err
			})
		}
	}
}

// kernel is what the kernel says of itself.
func (c *collection) kernel(ctx context.Context) {
	c.add(ctx, "kernel/dmesg.txt", "the kernel's messages", func(context.Context) ([]byte, error) {
		b, err := dmesg()
		return Text(b), err
	})
	for _, f := range []struct{ path, what string }{
		{"proc/version", "kernel"}, {"proc/cmdline", "kernel command line"}, {"proc/modules", "loaded modules"},
		{"proc/meminfo", "memory"}, {"proc/swaps", "swap"}, {"proc/self/mountinfo", "mounts"}, {"proc/uptime", "uptime"},
		{"proc/loadavg", "load"}, {"proc/pressure/io", "I/O pressure"}, {"proc/diskstats", "I/O counters"},
		{"proc/interrupts", "interrupts"}, {"etc/os-release", "distribution"},
	} {
		name := "kernel/" + strings.TrimSuffix(filepath.Base(f.path), ".txt") + ".txt"
		c.add(ctx, name, f.what, func(context.Context) ([]byte, error) {
			b, err := os.ReadFile(filepath.Join(c.machine.Root, f.path))
			return Text(b), err
		})
	}
}

// logs are the last lines that services wrote.
func (c *collection) logs(ctx context.Context, r *report.Report) {
	if r == nil {
		return
	}
	for _, u := range r.Units {
		service, ok := strings.CutPrefix(u.ID, "service/")
		if !ok {
			continue
		}
		c.add(ctx, "logs/"+strings.ReplaceAll(service, "/", "-")+".txt", "last lines of "+u.ID, func(ctx context.Context) ([]byte, error) {
			if c.machine.Logs == nil {
				return nil, errors.New("no orchestrator runs, and it has them")
			}
			text, err := c.machine.Logs(ctx, service)
			return Text([]byte(text)), err
		})
	}
}

// Size is the sum of all files, in bytes.
func (m Manifest) Size() int {
	n := 0
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// FileName is a name for a bundle of this machine: sorts by time, and fits
// every file system.
func FileName(m Machine, at time.Time) string {
	return fileName(machineName(m), at.UTC().Format("20060102T150405Z"))
}

// machineName is the appliance's, else the host's.
func machineName(m Machine) string {
	if list, err := report.ReadFile(filepath.Join(m.Run, "events")); err == nil {
		if r := report.Fold(list); r.Name != "" {
			return r.Name
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func fileName(machine, made string) string {
	safe := func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}
	machine = strings.TrimLeft(strings.Map(safe, machine), ".")
	return "support-" + cmp.Or(machine, "unknown") + "-" + made + ".tar.gz"
}

// sorted writes lines in order.
func sorted(lines []string) []byte {
	slices.Sort(lines)
	return []byte(strings.Join(lines, "\n") + "\n")
}
