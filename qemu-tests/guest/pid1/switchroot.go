package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
	"initd/qemu-tests/guest/event"
)

const (
	newRoot    = "/sysroot"
	otherMount = "/other"      // another file system below the old root
	keeperPID  = "/run/keeper" // the keeper's pid
	plantedKey = "/etc/initd/pki/store.key"
	privateKey = "/opt/private.key" // secret by its mode only
	secretText = "-----BEGIN A KEY THAT NOBODY MAY FIND-----"
)

// switchroot: the first hand-over fails, for its root lacks a folder, and everything is where it was. The second one
// reaches its root, which has no such init: init goes on there. The third one, from there, succeeds: this program is the
// new root's init too, and the orchestrator that lives on.
func (s *story) switchroot() error {
	gen := s.init.Hello().Generation
	if gen == 1 {
		if err := s.init.Watchdog(s.ctx, "/dev/watchdog", dogTimeout); err != nil {
			return err
		}
		if err := s.makeRoots(); err != nil {
			return err
		}
		return s.handOver("/bad", "/sbin/init")
	}
	for ev := range s.init.Events() {
		if ev.Kind == wire.EventNote {
			s.tell("note", map[string]any{"text": ev.Text, "stat": read("/proc/1/comm"), "secret": read(plantedKey) == secretText})
			break
		}
	}
	if gen == 3 {
		if err := makeRoot(newRoot, ""); err != nil {
			return err
		}
		return s.handOver(newRoot, "/sbin/init")
	}
	keeper := exec.Command(self, "keep")
	keeper.Stderr = os.Stderr
	if err := keeper.Start(); err != nil {
		return err
	}
	for read(keeperPID) != fmt.Sprint(keeper.Process.Pid) {
		time.Sleep(20 * time.Millisecond) // a fixture: until it has its files open
	}
	return s.handOver(newRoot, "/sbin/none")
}

const dogTimeout = 4 * time.Second

// handOver asks for it and exits.
func (s *story) handOver(root, init string) error {
	s.tell("asking", map[string]any{"root": root})
	_ = s.port.Drain()
	if err := s.init.SwitchRoot(s.ctx, wire.SwitchRoot{Root: root, Init: init, Adopt: true}); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// makeRoots makes a root that lacks /sys, a good one, and what is to be gone or to stay.
func (s *story) makeRoots() error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := errors.Join(makeRoot("/bad", "/sys"), makeRoot(newRoot, ""), tmpfs(otherMount)); err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		otherMount + "/stays": []byte("stays"), wire.AdoptPath: program,
		plantedKey: []byte(secretText), privateKey: []byte(secretText),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o755)
		if path == privateKey {
			mode = 0o600
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			return err
		}
	}
	return nil
}

// makeRoot makes a root with this program as its init, without one of its folders.
func makeRoot(root, without string) error {
	if err := tmpfs(root); err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", "/sbin"} {
		if dir == without {
			continue
		}
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			return err
		}
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(root+"/sbin/init", program, 0o755)
}

func tmpfs(where string) error {
	if err := os.MkdirAll(where, 0o755); err != nil {
		return err
	}
	return os.NewSyscallError("mount", unix.Mount("tmpfs", where, "tmpfs", 0, "mode=0755"))
}

// keep is a process of the old root that nobody ends: it sees what became of the files that it has open.
func keep() error {
	// Out of the orchestrator's group, which init kills.
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte("0"), 0); err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGUSR1)
	port, err := event.Open()
	if err != nil {
		return err
	}
	var secrets []*os.File
	for _, p := range []string{plantedKey, privateKey} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		secrets = append(secrets, f)
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	other, err := os.Open(otherMount)
	if err != nil {
		return err
	}
	if err := os.WriteFile(keeperPID+".new", []byte(fmt.Sprint(os.Getpid())), 0o644); err != nil {
		return err
	}
	if err := os.Rename(keeperPID+".new", keeperPID); err != nil {
		return err
	}
	<-asked
	zeros := 0
	for _, f := range secrets {
		b, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if len(b) == len(secretText) && len(bytes.Trim(b, "\x00")) == 0 {
			zeros++
		}
	}
	stays, err := other.Readdirnames(-1)
	if err != nil {
		return err
	}
	left, err := root.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(left)
	if err := port.Emit("kept", map[string]any{"zeros": zeros, "other": strings.Join(stays, " "), "left": strings.Join(left, " ")}); err != nil {
		return err
	}
	return port.Drain()
}

// newInit is the init of the new root.
func newInit() error {
	port, err := event.Open()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err := port.Emit("newinit", map[string]any{
		"pid": os.Getpid(), "argv": strings.Join(os.Args, " "), "root": strings.Join(names, " "), "cgroup": read("/sys/fs/cgroup/initd/orchestrator/cgroup.events"),
		"limit": strings.Join(strings.Fields(limitLine()), " "), "descriptors": descriptors(),
	}); err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(read(keeperPID), &pid); err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		return err
	}
	time.Sleep(3 * dogTimeout) // it would have reset the machine by then
	if err := port.Emit("alive", map[string]any{"watchdog": read("/sys/class/watchdog/watchdog0/state")}); err != nil {
		return err
	}
	if err := port.Drain(); err != nil {
		return err
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// descriptors counts what this process inherited beyond its standard ones, but for the Go runtime's and its own.
func descriptors() string {
	var list []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/proc/") && to != event.Device {
			list = append(list, to)
		}
	}
	return strings.Join(list, " ")
}

// adopted is the orchestrator that lives on.
func adopted() error {
	port, err := event.Open()
	if err != nil {
		return err
	}
	_, err = unix.GetsockoptInt(wire.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err := port.Emit("adopted", map[string]any{"argv": strings.Join(os.Args, " "), "socket": err == nil}); err != nil {
		return err
	}
	for {
		_ = unix.Pause()
	}
}
