package main

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The groups below initd's own.
const (
	groupOrchestrator = "orchestrator"
	groupChildren     = "children" // the orchestrator's short-lived processes
	groupServices     = "services"
)

// groups is initd's part of the cgroup2 tree; empty where there is none.
// Source: Documentation/admin-guide/cgroup-v2.rst.
type groups string

func makeGroups(root string, note func(string)) groups {
	base := root + "/initd"
	for _, d := range []string{base, base + "/" + groupOrchestrator, base + "/" + groupChildren, base + "/" + groupServices} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			note("make cgroup: " + err.Error())
			return ""
		}
	}
	for _, d := range []string{root, base, base + "/" + groupServices, base + "/" + groupChildren} {
		for _, c := range []string{"+memory", "+pids", "+cpu", "+io"} {
			// Accounting is a convenience: kernels and namespaces without it do as well.
			_ = os.WriteFile(d+"/cgroup.subtree_control", []byte(c), 0)
		}
	}
	for _, d := range []string{groupOrchestrator, groupChildren} {
		// Keys wait in memfds, which whoever makes them is charged for, and would be written to a swap device; as would be the
		// memory of the programs that handle them. The limit holds below, and for what a group that is gone leaves.
		_ = os.WriteFile(base+"/"+d+"/memory.swap.max", []byte("0"), 0)
	}
	return groups(base)
}

// path returns a group's folder. valid has been asked before.
func (g groups) path(name string) string { return string(g) + "/" + name }

// validGroup tells whether a name from the wire stays below initd's groups
// and out of init's own.
func validGroup(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.HasPrefix(part, "cgroup.") {
			return false
		}
	}
	return strings.HasPrefix(name, groupServices+"/") || strings.HasPrefix(name, groupChildren+"/")
}

// kill ends everything in a group and below.
func (g groups) kill(name string) error {
	if g == "" {
		return unix.ENOTSUP
	}
	return os.WriteFile(g.path(name)+"/cgroup.kill", []byte("1"), 0)
}

// pids lists the processes in a group and below it, at most limit.
func (g groups) pids(name string, limit int) []int {
	if g == "" {
		return nil
	}
	return pidsBelow(g.path(name), limit, maxDepth)
}

// maxDepth bounds the walk: a service may make groups of its own.
const maxDepth = 16

func pidsBelow(dir string, limit, depth int) []int {
	var list []int
	b, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && n > 0 && len(list) < limit {
			list = append(list, n)
		}
	}
	if depth == 0 {
		return list
	}
	for _, d := range subgroups(dir) {
		list = append(list, pidsBelow(dir+"/"+d, limit-len(list), depth-1)...)
	}
	return list
}

func subgroups(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, e.Name())
		}
	}
	return list
}

// populated tells whether a process lives in a group or below.
func (g groups) populated(name string) bool {
	if g == "" {
		return false
	}
	b, err := os.ReadFile(g.path(name) + "/cgroup.events")
	return err == nil && strings.Contains(string(b), "populated 1")
}

// signal sends a signal to everything in a group. SIGKILL goes by the kernel,
// so that nothing forks away.
func (g groups) signal(name string, s unix.Signal) error {
	if s == unix.SIGKILL {
		return g.kill(name)
	}
	if g == "" {
		return unix.ENOTSUP
	}
	for _, pid := range g.pids(name, maxSignalled) {
		if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

const maxSignalled = 1 << 16

// remove deletes an empty group and what is below it; one that is in use
// stays.
func (g groups) remove(name string) {
	if g != "" {
		removeBelow(g.path(name), maxDepth)
	}
}

// clear deletes the empty groups below a group.
func (g groups) clear(name string) {
	if g == "" {
		return
	}
	for _, d := range subgroups(g.path(name)) {
		removeBelow(g.path(name)+"/"+d, maxDepth)
	}
}

func removeBelow(dir string, depth int) {
	if depth > 0 {
		for _, d := range subgroups(dir) {
			removeBelow(dir+"/"+d, depth-1)
		}
	}
	_ = unix.Rmdir(dir) // EBUSY: somebody lives there
}
