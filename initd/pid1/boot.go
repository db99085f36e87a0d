package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boot brings the machine to where the orchestrator can run, and runs the
// loop. It does not return.
func boot() {
	signals, children := subscribe()
	con := newConsole()
	mountAll(con.say)
	con.open()
	stayInMemory(con.say)
	m := &machine{
		con:      con,
		settings: readSettings("/proc/cmdline"),
		power:    ownsMachine(),
		signals:  signals,
		children: children,
		inbox:    make(chan incoming, 16),
		stirred:  make(chan uint64, 16),
		typed:    make(chan struct{}, 1),
		procs:    map[uint64]*process{},
		store:    map[string]stored{},
		started:  time.Now(),
	}
	for _, s := range m.settings.ignored {
		m.note(s)
	}
	prepareKernel(m)
	m.groups = makeGroups("/sys/fs/cgroup", m.note)
	m.dog.openFirst(m)
	m.boss.init(m)
	m.loop()
}

// subscribe asks for every signal. One that reaches PID 1 without this ends
// the Go runtime, and with it the kernel. SIGURG is the runtime's own
// (preemption) and ignored by default; 32 to 34 have no handler in Go, and
// the kernel does not deliver those to PID 1.
func subscribe() (signals chan os.Signal, children chan os.Signal) {
	signals = make(chan os.Signal, 256)
	children = make(chan os.Signal, 1) // coalesces: one means look
	for n := 1; n <= 64; n++ {
		switch s := syscall.Signal(n); s {
		case syscall.SIGURG:
		case syscall.SIGCHLD:
			signal.Notify(children, s)
		default:
			signal.Notify(signals, s)
		}
	}
	return signals, children
}

// pidNamespaceInode is the inode of the machine's own pid namespace
// (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const pidNamespaceInode = 0xEFFFFFFC

// ownsMachine tells whether this is PID 1 of the machine, and not of a pid
// namespace.
func ownsMachine() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == pidNamespaceInode
}

// prepareKernel sets what must hold before anything else runs.
func prepareKernel(m *machine) {
	unix.Umask(0o022)
	must := func(what string, err error) {
		if err != nil {
			m.note(what + ": " + err.Error())
		}
	}
	must("chdir /", unix.Chdir("/"))
	if m.power {
		must("set kernel.panic", os.WriteFile("/proc/sys/kernel/panic", []byte("10\n"), 0))
		must("take over ctrl-alt-del", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF))
	}
	lim := syscall.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		must("raise the limit of open files", err)
	}
	must("make /run/initd", os.MkdirAll("/run/initd", 0o755))
}

// maxFiles is the kernel's default of fs.nr_open.
const maxFiles = 1 << 20
