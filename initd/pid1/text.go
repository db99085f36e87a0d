package main

import (
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// waitText says how a process ended, in words.
func waitText(w syscall.WaitStatus) string {
	switch {
	case w.Exited():
		return "exit status " + itoa(w.ExitStatus())
	case w.Signaled():
		s := "killed by " + signalName(w.Signal())
		if w.CoreDump() {
			s += " (core dumped)"
		}
		return s
	}
	return "wait status " + itoa(int(w))
}

func signalName(s syscall.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return "signal " + itoa(int(s))
}

// boottime returns CLOCK_BOOTTIME in nanoseconds.
func boottime() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return uint64(t.Nano())
}

// seconds writes a duration as people say it: "90s", "10m0s".
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
