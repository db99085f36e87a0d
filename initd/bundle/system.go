package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"initd/hw/block"
	"initd/hw/dm"
	"initd/hw/link"
	"initd/hw/sysfs"
)

// dmesg returns the kernel's ring buffer (syslog(2), SYSLOG_ACTION_READ_ALL).
func dmesg() ([]byte, error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return nil, fmt.Errorf("read kernel messages: %w", err)
	}
	b := make([]byte, min(size, maxPart))
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return nil, fmt.Errorf("read kernel messages: %w", err)
	}
	return b[:n], nil
}

// devices are block devices from sysfs, and the tables of device mapper with
// their keys left out.
func (c *collection) devices(ctx context.Context) {
	c.add(ctx, "devices/block.txt", "block devices: number, size, what they stand on, names", func(context.Context) ([]byte, error) {
		f, err := sysfs.Open(c.machine.Root)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		list, err := block.Scan(f)
		if err != nil {
			return nil, err
		}
		var lines []string
		for _, d := range list {
			line := fmt.Sprintf("%-16s %-8s %8d MiB", d.Name, d.Number(), d.Size>>20)
			for _, x := range []struct {
				name string
				list []string
			}{{"on", d.Slaves}, {"holders", d.Holders}, {"partitions", d.Partitions}, {"id", d.IDs}, {"path", d.Paths}} {
				if len(x.list) > 0 {
					line += " " + x.name + "=" + strings.Join(x.list, ",")
				}
			}
			if d.ReadOnly {
				line += " read-only"
			}
			if d.DM != nil {
				line += fmt.Sprintf(" dm=%s uuid=%s suspended=%v", d.DM.Name, d.DM.UUID, d.DM.Suspended)
			}
			if d.Loop != nil {
				line += " loop=" + d.Loop.BackingFile
			}
			lines = append(lines, line)
		}
		return sorted(lines), nil
	})
	c.add(ctx, "devices/dm.txt", "device mapper: tables without keys, and status", func(context.Context) ([]byte, error) {
		list, err := dm.List()
		if err != nil {
			return nil, err
		}
		var lines []string
		for _, d := range list {
			for what, get := range map[string]func(string) ([]dm.Target, error){"table": dm.Table, "status": dm.Status} {
				targets, err := get(d.Name)
				if err != nil {
					lines = append(lines, fmt.Sprintf("%s %s: %v", d.Name, what, err))
				}
				for _, t := range targets {
					lines = append(lines, fmt.Sprintf("%s %s: %s", d.Name, what, t))
				}
			}
		}
		return sorted(lines), nil
	})
}

// network is interfaces, addresses, routes and name servers.
func (c *collection) network(ctx context.Context) {
	c.add(ctx, "network.txt", "interfaces, addresses, routes, neighbours that do not answer", func(context.Context) ([]byte, error) {
		s, err := link.Read()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		for _, x := range s.Interfaces {
			fmt.Fprintf(&b, "interface %+v\n", x)
		}
		for _, x := range s.Addresses {
			fmt.Fprintf(&b, "address %+v\n", x)
		}
		for _, x := range s.Routes {
			fmt.Fprintf(&b, "route %+v\n", x)
		}
		for _, x := range s.Failed {
			fmt.Fprintf(&b, "no answer %+v\n", x)
		}
		return b.Bytes(), nil
	})
	c.add(ctx, "resolv.conf", "name servers", func(context.Context) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(c.machine.Root, "etc/resolv.conf"))
		return Text(b), err
	})
}

// processes lists names and states, and where in the kernel those sleep that
// cannot be ended; neither arguments nor environment.
func (c *collection) processes(ctx context.Context) {
	c.add(ctx, "processes.txt", "processes: pid, parent, state, name, and where a stuck one sleeps", func(context.Context) ([]byte, error) {
		proc := filepath.Join(c.machine.Root, "proc")
		names, err := os.ReadDir(proc)
		if err != nil {
			return nil, err
		}
		var pids []int
		for _, n := range names {
			if pid, err := strconv.Atoi(n.Name()); err == nil {
				pids = append(pids, pid)
			}
		}
		slices.Sort(pids)
		var b bytes.Buffer
		for _, pid := range pids {
			line, err := process(proc, pid)
			if err == nil {
				b.WriteString(line)
			}
		}
		return b.Bytes(), nil
	})
}

// process is the line of one; proc_pid_stat(5): pid (comm) state ppid ….
func process(proc string, pid int) (string, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	rest := strings.Fields(string(b[min(end+1, len(b)):]))
	if open < 0 || end < open || len(rest) < 2 {
		return "", errors.New("not a line of proc_pid_stat(5)")
	}
	line := fmt.Sprintf("%6d %6s %s %s", pid, rest[1], rest[0], b[open+1:end])
	if rest[0] == "D" {
		wchan, _ := os.ReadFile(filepath.Join(dir, "wchan"))
		stack, _ := os.ReadFile(filepath.Join(dir, "stack"))
		line += " in " + string(wchan) + "\n" + strings.TrimRight(string(stack), "\n")
	}
	return line + "\n", nil
}

// versions says which programs ran: init has no version that could be asked
// for, so its digest stands for it.
func (c *collection) versions(ctx context.Context) {
	c.add(ctx, "versions.txt", "versions and digests of initd and init", func(context.Context) ([]byte, error) {
		var b bytes.Buffer
		fmt.Fprintf(&b, "initd %s (%s)\n", c.machine.Version, runtime.Version())
		for _, f := range []string{"proc/self/exe", "proc/1/exe"} {
			path := filepath.Join(c.machine.Root, f)
			target, _ := os.Readlink(path)
			content, err := os.ReadFile(path)
			if err != nil {
				fmt.Fprintf(&b, "/%s: %v\n", f, err)
				continue
			}
			fmt.Fprintf(&b, "/%s -> %s: %d bytes, sha256 %x\n", f, target, len(content), sha256.Sum256(content))
		}
		return b.Bytes(), nil
	})
}
