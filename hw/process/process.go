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
	tasks, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "[0-9]*"))
	for _, t := range tasks {
		b, err := os.ReadFile(filepath.Join(t, "stat"))
		if err != nil || state(string(b)) != 'D' {
			continue
		}
		w, err := os.ReadFile(filepath.Join(t, "wchan"))
		if err != nil || len(w) == 0 || string(w) == "0" {
			return Unknown, true
		}
		return strings.TrimSpace(string(w)), true
	}
	return Unknown, false
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
