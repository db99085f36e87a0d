package pid1test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// spare is the second place at which init looks for an orchestrator.
const spare = "/run/initd/bin/initd"

const setupName = "pid1test-setup"

// setup runs as PID 1 of the new namespaces: it builds the root and becomes
// init. It returns on failure only.
func setup(dir string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	flags, err := os.ReadFile(filepath.Join(dir, "flags"))
	if err != nil {
		return err
	}
	has := func(f string) bool { return strings.Contains(string(flags), f) }
	root := filepath.Join(dir, "root")
	b := &builder{root: root}
	b.do("mount private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	b.mount("tmpfs", "", "tmpfs", "mode=0755")
	for _, d := range []string{"/dev", "/proc", "/run/initd/bin", "/usr/bin", "/etc", "/tmp", Shared} {
		b.do("make "+d, os.MkdirAll(root+d, 0o755))
	}
	b.mount("tmpfs", "/dev", "tmpfs", "mode=0755")
	b.mount("tmpfs", "/run", "tmpfs", "mode=0755")
	b.do("make /run/initd/bin", os.MkdirAll(root+"/run/initd/bin", 0o755))
	b.mount("proc", "/proc", "proc", "")
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		b.do("mknod "+name, unix.Mknod(root+"/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))))
	}
	b.do("chmod /dev/null", unix.Chmod(root+"/dev/null", 0o666))
	tty, err := os.ReadFile(filepath.Join(dir, "console"))
	b.do("name of the console", err)
	b.bind(string(tty), "/dev/console")
	b.bind(filepath.Join(dir, "cmdline"), "/proc/cmdline")
	b.bind("/proc/self/exe", Self)
	if has("exe") {
		b.bind("/proc/self/exe", spare)
	}
	if _, err := os.Stat(filepath.Join(dir, "watchdog")); err == nil {
		b.bind(filepath.Join(dir, "watchdog"), "/dev/watchdog")
	}
	b.do("bind shared", unix.Mount(filepath.Join(dir, "shared"), root+Shared, "", unix.MS_BIND, ""))
	if has("disk") {
		b.bind(filepath.Join(dir, "init"), "/init")
	} else {
		data, err := os.ReadFile(filepath.Join(dir, "init"))
		b.do("read init", err)
		b.do("write init", os.WriteFile(root+"/init", data, 0o755))
	}
	b.do("write passwd", os.WriteFile(root+"/etc/passwd", []byte("root:x:0:0::/:/bin/sh\nredis:x:101:102::/:/bin/sh\n"), 0o644))
	b.do("write group", os.WriteFile(root+"/etc/group", []byte("root:x:0:\nredis:x:102:\nextra:x:200:redis\n"), 0o644))
	b.do("chdir", unix.Chdir(root))
	b.do("pivot_root", unix.PivotRoot(".", "."))
	b.do("leave the old root", unix.Unmount(".", unix.MNT_DETACH))
	b.do("chdir /", unix.Chdir("/"))
	if b.err != nil {
		return b.err
	}
	return syscall.Exec("/init", []string{"/init"}, []string{"TERM=linux", "HOME=/"})
}

// builder remembers the first failure.
type builder struct {
	root string
	err  error
}

func (b *builder) do(what string, err error) {
	if b.err == nil && err != nil {
		b.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (b *builder) mount(what, where, kind, options string) {
	b.do("mount "+where, unix.Mount(what, b.root+where, kind, 0, options))
}

func (b *builder) bind(what, where string) {
	to := b.root + where
	if _, err := os.Stat(to); errors.Is(err, os.ErrNotExist) {
		b.do("make "+where, os.WriteFile(to, nil, 0o755))
	}
	b.do("bind "+where, unix.Mount(what, to, "", unix.MS_BIND, ""))
}

// orchestrate plays the orchestrator: it hands its socket to the test outside
// and does what that says.
func orchestrate(m *testing.M) int {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: Shared + "/ctl", Net: "unixpacket"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "pid1test:", err)
		return 70
	}
	if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(wire.FD), nil); err != nil {
		fmt.Fprintln(os.Stderr, "pid1test:", err)
		return 70
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		return 0 // the test is over
	}
	what, arg, _ := strings.Cut(string(b[:n]), " ")
	switch what {
	case "exit":
		var code int
		fmt.Sscan(arg, &code)
		return code
	case "test":
		return runTest(c, m, arg)
	}
	return 70
}

// Inside tells whether this process is inside a machine.
func Inside() bool { return os.Args[0] == Self || os.Args[0] == spare }

// runTest runs one test here and sends its output.
func runTest(c *net.UnixConn, m *testing.M, name string) int {
	out, err := os.Create(Shared + "/output")
	if err != nil {
		return 70
	}
	os.Stdout, os.Stderr = out, out
	os.Args = []string{Self, "-test.run=^" + name + "$", "-test.v", "-test.timeout=110s"}
	code := m.Run()
	b, err := os.ReadFile(Shared + "/output")
	if err != nil {
		return 70
	}
	const most = 60 << 10
	text := string(b[max(0, len(b)-most):])
	if code == 0 {
		text = "PASS\n" + text
	}
	_, _ = c.Write([]byte(text))
	return code
}
