package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"initd/hw/dm"
	"initd/hw/mount"
)

// state is what must not differ after an orchestrator's death: dm tables,
// mounts, addresses, the ledger, and the pid and start time of a service.
func state(comm string) (map[string]any, error) {
	var tables []string
	items, err := dm.List()
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		list, err := dm.Table(i.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			tables = append(tables, fmt.Sprintf("%s: %d %d %s %s", i.Name, t.Start, t.Length, t.Type, t.Params))
		}
	}
	slices.Sort(tables)
	list, err := mount.List()
	if err != nil {
		return nil, err
	}
	var mounts []string
	for _, m := range list {
		if m.Major != 0 {
			mounts = append(mounts, fmt.Sprintf("%s %s %s %s", m.Point, m.Type, m.Root, strings.Join(m.Options, ",")))
		}
	}
	slices.Sort(mounts)
	addresses, err := addresses()
	if err != nil {
		return nil, err
	}
	ledger, err := os.ReadFile("/run/initd/ledger")
	if err != nil {
		return nil, err
	}
	pid, start := find(comm)
	return map[string]any{"tables": tables, "mounts": mounts, "addresses": addresses, "pid": pid, "started": start,
		"ledger": strings.Split(strings.TrimSpace(string(ledger)), "\n")}, nil
}

// addresses lists those of all links but the loopback, without link-local ones.
func addresses() ([]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if l.Flags&net.FlagLoopback == 0 && ok && !n.IP.IsLinkLocalUnicast() {
				list = append(list, l.Name+" "+n.String())
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// find returns the pid and start time of the first process called comm.
func find(comm string) (int, string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		name, started := startOf(s)
		if name != comm {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		return pid, started
	}
	return 0, ""
}

// startOf reads a process's name and start time, in ticks since boot (proc_pid_stat(5)).
func startOf(stat string) (name, started string) {
	b, err := os.ReadFile(stat)
	if err != nil {
		return "", ""
	}
	_, rest, _ := strings.Cut(string(b), "(")
	end := strings.LastIndexByte(rest, ')')
	if end < 0 {
		return "", ""
	}
	if f := strings.Fields(rest[end+1:]); len(f) > 19 {
		started = f[19]
	}
	return rest[:end], started
}
