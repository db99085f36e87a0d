// Package process looks at processes of others: where in the kernel one
// sleeps, and when the last one of a cgroup has gone.
//
// It owns the reading of /proc/PID and of a cgroup's files that never block on
// the process itself: no cmdline, maps or stack, which wait for locks that a
// sleeper may hold (fs/proc/base.c). It never signals and never starts one.
package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Unknown is the place of a process of which the kernel does not say where it
// sleeps.
const Unknown = "unknown"

// Asleep says where a process sleeps so that nothing can end it: the kernel
// function of the first of its threads that is in uninterruptible sleep (state
// D, proc_pid_stat(5)), or Unknown. ok is false if no thread is.
func Asleep(pid int) (wchan string, ok bool) {
	t := sleeping(pid)
	if t == "" {
		return Unknown, false
	}
	w, err := os.ReadFile(filepath.Join(t, "wchan"))
	if err != nil || len(w) == 0 || string(w) == "0" {
		return Unknown, true
	}
	return strings.TrimSpace(string(w)), true
}

// Nap names the present sleep of one of pids: equal naps at two times mean
// that it has not woken between them. "" if none sleeps.
func Nap(pids []int) string {
	for _, pid := range pids {
		t := sleeping(pid)
		if t == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(t, "status"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				return t + " " + strings.TrimSpace(n)
			}
		}
	}
	return ""
}

// sleeping is the folder of the first thread in state D; "" without one.
func sleeping(pid int) string {
	tasks, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "[0-9]*"))
	for _, t := range tasks {
		if b, err := os.ReadFile(filepath.Join(t, "stat")); err == nil && state(string(b)) == 'D' {
			return t
		}
	}
	return ""
}

// state is the letter after the name, which may hold spaces and brackets.
func state(stat string) byte {
	i := strings.LastIndex(stat, ") ")
	if i < 0 || i+2 >= len(stat) {
		return 0
	}
	return stat[i+2]
}

// Sleeper finds the one of pids that sleeps, and where; without one it is the
// first of them. Zero: pids is empty.
func Sleeper(pids []int) (pid int, wchan string) {
	for _, p := range pids {
		if w, ok := Asleep(p); ok {
			return p, w
		}
	}
	if len(pids) == 0 {
		return 0, Unknown
	}
	return pids[0], Unknown
}

// Runs tells whether there is a process of that name (its comm: at most 15
// bytes, proc_pid_comm(5)).
func Runs(name string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/comm")
	return slices.ContainsFunc(files, func(f string) bool {
		b, err := os.ReadFile(f) // else it has gone
		return err == nil && strings.TrimSuffix(string(b), "\n") == name
	})
}
