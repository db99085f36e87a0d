package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/pid1test"
)

// orphans starts 300 processes and leaves them; they end when this one does.
func orphans([]string) int {
	r, w, err := os.Pipe()
	if err != nil {
		return 1
	}
	defer w.Close()
	for range 300 {
		if _, err := syscall.ForkExec(pid1test.Self, []string{pid1test.Self, "wait"}, &syscall.ProcAttr{
			Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: []uintptr{r.Fd(), 1, 2},
		}); err != nil {
			return 1
		}
	}
	return 0
}

// waitForEver waits until its standard input ends; of /dev/null, for ever.
func waitForEver([]string) int {
	var st unix.Stat_t
	if unix.Fstat(0, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
		_ = unix.Pause()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func exitWith(args []string) int {
	n, _ := strconv.Atoi(args[0])
	return n
}

func say(args []string) int {
	fmt.Println(strings.Join(args, " "))
	return 0
}

// stubborn ignores SIGTERM.
func stubborn([]string) int {
	signal.Ignore(unix.SIGTERM)
	fmt.Println("ready")
	for {
		_ = unix.Pause()
	}
}

// flood writes lines until it cannot.
func flood([]string) int {
	for i := 0; ; i++ {
		if _, err := fmt.Printf("line %d %s\n", i, strings.Repeat("x", 1000)); err != nil {
			return 1
		}
	}
}

// show tells what this process was given.
func show(args []string) int {
	dir, _ := os.Getwd()
	groups, _ := os.Getgroups()
	status, _ := os.ReadFile("/proc/self/status")
	field := func(name string) string {
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	oom, _ := os.ReadFile("/proc/self/oom_score_adj")
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	group, _ := os.ReadFile("/proc/self/cgroup")
	var nproc, nofile unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NPROC, &nproc)
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile)
	files := nofile.Max // the soft one is raised by Go's runtime
	fmt.Printf("args show%s\nenv %s\ndir %s\n", strings.Join(args, " "), strings.Join(os.Environ(), ","), dir)
	fmt.Printf("uid %d gid %d groups %v\numask %s\nnnp %s\n", os.Getuid(), os.Getgid(), groups, strings.TrimLeft(field("Umask"), "0"), field("NoNewPrivs"))
	// The kernel's own getpriority answers 20 less the nice value.
	fmt.Printf("oom %s nice %d\n", strings.TrimSpace(string(oom)), 20-nice)
	fmt.Printf("nproc %d %d files %d\n", nproc.Cur, nproc.Max, files)
	for line := range strings.Lines(string(group)) {
		if v, ok := strings.CutPrefix(line, "0::"); ok {
			fmt.Print("cgroup ", v)
		}
	}
	for fd := range 64 {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || strings.HasPrefix(target, "anon_inode") || strings.HasPrefix(target, "/proc") {
			continue
		}
		if strings.HasPrefix(target, "pipe") {
			target = "pipe"
		}
		fmt.Printf("%d -> %s\n", fd, target)
	}
	return 0
}

// signalInit sends every signal to PID 1 that asks for nothing, and SIGTERM.
func signalInit([]string) int {
	for n := 1; n <= 64; n++ {
		switch s := syscall.Signal(n); {
		case s == unix.SIGINT, s == unix.SIGUSR1, s == unix.SIGUSR2, s == unix.SIGPWR, n >= 37 && n <= 40:
			continue
		default:
			if err := unix.Kill(1, s); err != nil {
				fmt.Println(s, err)
				return 1
			}
		}
	}
	return 0
}

// killInit sends signals to PID 1; "wait" waits for the test first.
func killInit(args []string) int {
	for _, a := range args {
		if a == "wait" {
			for !told() {
				time.Sleep(10 * time.Millisecond) // a fixture: the file has no event across the namespace
			}
			continue
		}
		n, _ := strconv.Atoi(a)
		if err := unix.Kill(1, syscall.Signal(n)); err != nil {
			return 1
		}
		time.Sleep(20 * time.Millisecond) // equal signals that wait together are one
	}
	return 0
}

func told() bool {
	_, err := os.Stat(pid1test.Shared + "/go")
	return err == nil
}
