// Package pid1test runs the real init as PID 1 of a pid namespace on the
// machine that runs the tests, with a root of its own, so that what it does
// can be tested without booting one.
//
// It owns the namespace, the root, and the test binary's other roles in it:
// the test binary is also the orchestrator and every service. It needs root
// and a cgroup2 tree. It never touches what is outside: mounts, pids, cgroups
// and /dev are the namespace's own. What only a machine has (kernel panics,
// reboot(2), devices) belongs to the tests in virtual machines.
//
// A package that uses it calls Main in its TestMain.
package pid1test

import (
	"debug/elf"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// Shared is the folder that the inside and the outside have in common, as the
// inside sees it.
const Shared = "/shared"

// Self is the test binary, as the inside sees it. Called with a role's name
// it plays that role.
const Self = "/usr/bin/initd"

// Guard bounds every wait; it is generous, and no test measures it.
const Guard = 60 * time.Second

// Role is a program that the test binary plays inside: Self NAME ARGS….
type Role func(args []string) int

// Main plays a role if this process is inside a machine; otherwise it runs
// the tests. It does not return.
func Main(m *testing.M, roles map[string]Role) {
	switch name := filepath.Base(os.Args[0]); {
	case name == setupName:
		fmt.Fprintln(os.Stderr, "pid1test:", setup(os.Args[1]))
		os.Exit(70)
	case Inside() && len(os.Args) > 1:
		if os.Args[1] == "boot" {
			os.Exit(orchestrate(m))
		}
		if r := roles[os.Args[1]]; r != nil {
			os.Exit(r(os.Args[2:]))
		}
		fmt.Fprintln(os.Stderr, "pid1test: no role", os.Args[1])
		os.Exit(70)
	}
	dir, err := os.MkdirTemp("", "pid1test")
	if err != nil {
		fmt.Fprintln(os.Stderr, "pid1test:", err)
		os.Exit(70)
	}
	os.Setenv(buildDir, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildDir names the environment variable with the folder for init.
const buildDir = "PID1TEST_DIR"

// Options are what differs between machines.
type Options struct {
	CommandLine string // /proc/cmdline
	Disk        bool   // init lies on the test machine's disk and not in memory
	Watchdog    bool   // /dev/watchdog is a pipe that the test reads
	Exe         bool   // /run/initd/bin/initd is there as well
}

// Machine is a running init with everything below it.
type Machine struct {
	PID    int    // init's, seen from here
	Shared string // the shared folder, seen from here

	t      *testing.T
	ctl    *net.UnixListener
	cmd    *exec.Cmd
	group  string
	ended  chan struct{}
	status syscall.WaitStatus
	con    *terminal
	Dog    *os.File // reads what init writes to /dev/watchdog
}

// build makes init once a test binary.
var build = sync.OnceValues(func() (string, error) {
	out := filepath.Join(os.Getenv(buildDir), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version=test", "-o", out, "initd/initd/pid1")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build init: %w\n%s", err, b)
	}
	return out, nil
})

// Init returns the path of a freshly built, stripped init.
func Init(t *testing.T) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Boot starts init in a namespace of its own and ends it with the test.
func Boot(t *testing.T, o Options) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes namespaces: run it as root")
	}
	initPath := Init(t)
	// Not t.TempDir: a socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "p1-")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, Shared: filepath.Join(dir, "shared"), ended: make(chan struct{})}
	for _, d := range []string{"shared", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.ctl, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(m.Shared, "ctl"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if m.con, err = openTerminal(); err != nil {
		t.Fatal(err)
	}
	m.files(dir, initPath, o)
	m.group = cgroup(t)
	fd, err := os.Open(m.group)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	static(t, self)
	m.cmd = &exec.Cmd{
		Path: self, Args: []string{setupName, dir}, Env: []string{}, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
			UseCgroupFD: true, CgroupFD: int(fd.Fd()),
		},
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.PID = m.cmd.Process.Pid
	go func() {
		_ = m.cmd.Wait()
		m.status = m.cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(m.ended)
	}()
	t.Cleanup(func() { m.cleanup(dir) })
	return m
}

// static fails the test if the root inside could not run this binary.
func static(t *testing.T, file string) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Fatal("the test binary is dynamically linked: run with CGO_ENABLED=0")
		}
	}
}

// files puts what setup needs into dir.
func (m *Machine) files(dir, initPath string, o Options) {
	m.t.Helper()
	data, err := os.ReadFile(initPath)
	if err != nil {
		m.t.Fatal(err)
	}
	flags := []string{}
	if o.Disk {
		flags = append(flags, "disk")
	}
	if o.Exe {
		flags = append(flags, "exe")
	}
	if o.Watchdog {
		fifo := filepath.Join(dir, "watchdog")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			m.t.Fatal(err)
		}
		m.Dog, err = os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			m.t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{
		"init": data, "cmdline": []byte(o.CommandLine + "\n"), "console": []byte(m.con.name), "flags": []byte(strings.Join(flags, " ")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
}

// cgroup makes a group for the machine, below the first cgroup2 mount.
func cgroup(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[2] == "cgroup2" {
			dir, err := os.MkdirTemp(f[1], "pid1test-")
			if err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	t.Fatal("no cgroup2 is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")
	return ""
}

func (m *Machine) cleanup(dir string) {
	_ = m.cmd.Process.Kill()
	<-m.ended
	// Whoever is left in the namespace is being killed by the kernel; the
	// groups cannot go before.
	empty := func() bool {
		b, err := os.ReadFile(filepath.Join(m.group, "cgroup.events"))
		return err != nil || strings.Contains(string(b), "populated 0")
	}
	for end := time.Now().Add(Guard); !empty() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if m.t.Failed() {
		m.t.Logf("console of init:\n%s", m.Console())
	}
	m.ctl.Close()
	m.con.close()
	if m.Dog != nil {
		m.Dog.Close()
	}
	removeGroups(m.group)
	if err := os.RemoveAll(dir); err != nil {
		m.t.Errorf("clean up: %v", err)
	}
}

func removeGroups(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeGroups(filepath.Join(dir, e.Name()))
		}
	}
	_ = unix.Rmdir(dir)
}

// Path returns where a path of the inside is, seen from here.
func (m *Machine) Path(p string) string { return fmt.Sprintf("/proc/%d/root%s", m.PID, p) }

// Wait waits for the end of init. In a pid namespace reboot(2) ends init with
// SIGHUP for restart, and with SIGINT for halt and power off
// (kernel/pid_namespace.c, reboot_pid_ns).
func (m *Machine) Wait() syscall.WaitStatus {
	m.t.Helper()
	select {
	case <-m.ended:
		return m.status
	case <-time.After(Guard):
		m.t.Fatal("init does not end")
	}
	return 0
}

// Ended is closed when init has ended.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Until waits until ok, and fails the test with what was awaited if that does
// not come. It is for what has no event outside.
func (m *Machine) Until(what string, ok func() bool) {
	m.t.Helper()
	end := time.Now().Add(Guard)
	for !ok() {
		select {
		case <-m.ended:
			if ok() {
				return
			}
			m.t.Fatalf("waiting for %s: init has ended: %v", what, m.status)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			m.t.Fatalf("waiting for %s: it does not come", what)
		}
	}
}

// Orchestrator is one generation of the orchestrator, played from here.
type Orchestrator struct {
	PID  int // seen from here
	Conn *wire.Conn

	ctl *net.UnixConn
	raw int // a copy of the socket, for what is no record
	t   *testing.T
}

// Next waits for init to start an orchestrator.
func (m *Machine) Next() *Orchestrator {
	m.t.Helper()
	if err := m.ctl.SetDeadline(time.Now().Add(Guard)); err != nil {
		m.t.Fatal(err)
	}
	c, err := m.ctl.AcceptUnix()
	if err != nil {
		m.t.Fatalf("waiting for an orchestrator: %v", err)
	}
	o := &Orchestrator{t: m.t, ctl: c}
	m.t.Cleanup(func() { c.Close() })
	fd, pid, err := hello(c)
	if err != nil {
		m.t.Fatalf("hear the orchestrator: %v", err)
	}
	o.PID = pid
	if o.raw, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(o.hangUp)
	if o.Conn, err = wire.NewConn(fd); err != nil {
		m.t.Fatal(err)
	}
	return o
}

// hello receives the orchestrator's socket to init.
func hello(c *net.UnixConn) (fd, pid int, err error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(b[:], oob)
	if err != nil {
		return 0, 0, err
	}
	fds := wire.Rights(oob[:n])
	if len(fds) != 1 {
		return 0, 0, fmt.Errorf("%d descriptors came, want 1", len(fds))
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	_ = raw.Control(func(s uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return fds[0], pid, err
}

// hangUp closes this side's copies of the socket to init.
func (o *Orchestrator) hangUp() {
	o.Conn.Close()
	if o.raw >= 0 {
		unix.Close(o.raw)
		o.raw = -1
	}
}

// Exit makes the orchestrator exit with a status.
func (o *Orchestrator) Exit(code int) {
	o.t.Helper()
	o.hangUp()
	if _, err := fmt.Fprintf(o.ctl, "exit %d", code); err != nil {
		o.t.Fatal(err)
	}
}

// Kill ends the orchestrator by SIGKILL.
func (o *Orchestrator) Kill() {
	o.t.Helper()
	if err := unix.Kill(o.PID, unix.SIGKILL); err != nil {
		o.t.Fatal(err)
	}
	o.hangUp()
}

// RunTest makes the orchestrator run a test of this binary inside, and
// returns its output and whether it passed. It has the socket at wire.FD.
func (o *Orchestrator) RunTest(name string) (output string, ok bool) {
	o.t.Helper()
	o.hangUp()
	if _, err := fmt.Fprintf(o.ctl, "test %s", name); err != nil {
		o.t.Fatal(err)
	}
	if err := o.ctl.SetReadDeadline(time.Now().Add(2 * Guard)); err != nil {
		o.t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, err := o.ctl.Read(b)
	if err != nil {
		return fmt.Sprintf("no result: %v", err), false
	}
	return strings.CutPrefix(string(b[:n]), "PASS\n")
}

// Send sends bytes that are no record.
func (o *Orchestrator) Send(b []byte) error {
	return unix.Sendmsg(o.raw, b, nil, nil, unix.MSG_NOSIGNAL)
}
