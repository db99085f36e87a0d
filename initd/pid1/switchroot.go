package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// moved are the mounts that go along into the new root, with all that is
// mounted below them.
var moved = [...]string{"/dev", "/proc", "/sys", "/run"}

// askedToSwitchRoot hears that the machine is to be handed over as soon as
// the orchestrator has exited.
func (m *machine) askedToSwitchRoot(q *wire.SwitchRoot) error {
	switch {
	case !strings.HasPrefix(q.Root, "/") || q.Root == "/" || !strings.HasPrefix(q.Init, "/"):
		return unix.EINVAL
	case !isMountPoint(q.Root):
		return errors.New(q.Root + " is no mount point")
	case m.down.final || m.down.taken != 0:
		return unix.ESHUTDOWN
	}
	for _, p := range m.procs {
		if !p.boss && p.state != wire.StateExited {
			return unix.EBUSY
		}
	}
	if err := m.boss.restart(""); err != nil {
		return err
	}
	m.handover = q
	return nil
}

// switchRoot hands the machine over. It returns where that fails: before
// anything was lost, or in the new root when its init cannot be executed; in
// both cases an orchestrator is started as ever and hears why.
func (m *machine) switchRoot(q *wire.SwitchRoot) {
	m.handover = nil
	m.con.say("switching to the root " + q.Root)
	old, err := enter(q.Root)
	if err != nil {
		m.note("hand-over: " + err.Error())
		return
	}
	m.emptyOld(old)
	if q.Adopt {
		if err := m.startAdopted(); err != nil {
			m.note("hand-over: start " + wire.AdoptPath + " in the new root: " + err.Error())
		}
	}
	hurry(false)
	m.dog.leave(m)
	reopenStandard()
	m.await(100*time.Millisecond, func() bool { return len(m.con.lines) == 0 })
	// What the kernel gives to its first process (INR_OPEN_CUR and
	// INR_OPEN_MAX, include/uapi/linux/fs.h): the next init has its own idea.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 4096})
	err = syscall.Exec(q.Init, append([]string{q.Init}, os.Args[1:]...), os.Environ())
	m.note("hand-over: execute " + q.Init + " of the new root: " + err.Error())
	_ = m.groups.kill(groupOrchestrator) // the one that lives without init: the next one has it
	m.boss.paths = newPaths(wire.AdoptPath)
	m.reap() // what ended while it was waited for something else
}

// reopenStandard puts the new /dev/console where the old root's was, which is
// deleted.
func reopenStandard() {
	con := consoleFor()
	for fd := range 3 {
		_ = unix.Dup3(con, fd, 0)
	}
	unix.Close(con)
}

// enter moves the kernel's file systems to root and makes root the root. It
// returns the root before it. On failure everything is where it was.
// Source: switch_root(8) of util-linux; pivot_root(2) refuses a rootfs.
func enter(root string) (old int, err error) {
	old, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open /", err)
	}
	done := 0
	for _, dir := range moved {
		if err = unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			err = errors.New("move " + dir + " to " + root + dir + ": " + err.Error())
			break
		}
		done++
	}
	if err == nil {
		err = os.NewSyscallError("chdir "+root, unix.Chdir(root))
	}
	if err == nil {
		err = os.NewSyscallError("move "+root+" to /", unix.Mount(".", "/", "", unix.MS_MOVE, ""))
	}
	if err != nil {
		for _, dir := range moved[:done] {
			_ = unix.Mount(root+dir, dir, "", unix.MS_MOVE, "")
		}
		_ = unix.Chdir("/")
		unix.Close(old)
		return -1, err
	}
	// The new root covers the old one from here on: these two only make it
	// this process's, and cannot fail for a folder that was just entered.
	if err := unix.Chroot("."); err != nil {
		return old, os.NewSyscallError("chroot", err)
	}
	return old, os.NewSyscallError("chdir /", unix.Chdir("/"))
}

// emptyOld deletes what was the initramfs, so that its memory is free and its
// secrets are gone. Anything but memory is left alone: the machine was not
// started from an initramfs then.
func (m *machine) emptyOld(old int) {
	defer unix.Close(old)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(old, &fs) != nil || unix.Fstat(old, &st) != nil {
		return
	}
	if fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		m.note("hand-over: the root before is no initramfs and stays as it is")
		return
	}
	e := eraser{device: st.Dev}
	e.folder(old, "", deepest)
	if e.failed != "" {
		m.note("hand-over: not deleted: " + e.failed)
	}
}

// eraser deletes a tree of one file system.
type eraser struct {
	device uint64
	failed string // the first that could not be deleted, with the reason
	zeros  [64 << 10]byte
}

// deepest bounds the recursion, far beyond any image's tree.
const deepest = 64

// secretPlace is where the identity of an appliance is put.
const secretPlace = "/etc/initd/"

// folder deletes what is in a folder. Nothing is followed and nothing on
// another file system touched: a name that became a mount point stays.
func (e *eraser) folder(fd int, path string, depth int) {
	names, err := names(fd)
	e.note(path, err)
	for _, name := range names {
		p := path + "/" + name
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Dev != e.device {
			e.note(p, err)
			continue
		}
		flags := 0
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			flags = unix.AT_REMOVEDIR
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				e.note(p, err)
				continue
			}
			if depth > 0 {
				e.folder(sub, p, depth-1)
			}
			unix.Close(sub)
		case unix.S_IFREG:
			if strings.HasPrefix(p, secretPlace) || st.Mode&0o004 == 0 {
				e.note(p, e.overwrite(fd, name, st.Size))
			}
		}
		e.note(p, unix.Unlinkat(fd, name, flags))
	}
}

// overwrite puts zeros where a file's content is. Whoever has it open, and
// the memory it was in, has nothing of it then: deleting alone clears nothing.
func (e *eraser) overwrite(dir int, name string, size int64) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ETXTBSY {
		return nil // a program that runs
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for at := int64(0); at < size; {
		n, err := unix.Pwrite(fd, e.zeros[:min(size-at, int64(len(e.zeros)))], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func (e *eraser) note(path string, err error) {
	if err != nil && e.failed == "" {
		e.failed = path + ": " + err.Error()
	}
}

// names lists a folder.
func names(fd int) ([]string, error) {
	dup, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "")
	defer f.Close()
	return f.Readdirnames(-1)
}

// startAdopted starts the orchestrator that lives on beside the next init.
// systemd leaves processes alone whose name begins with '@', until the very
// end of the machine (its ROOT_STORAGE_DAEMONS document).
func (m *machine) startAdopted() error {
	spec, err := (&wire.Spec{
		Path: wire.AdoptPath, Argv: []string{"@initd", "boot", "--adopt"},
		Env:      []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TERM=linux", "GODEBUG=disablethp=1"},
		OOMScore: -900,
		Files:    []uint32{0, 1, 2},
	}).Encode()
	if err != nil {
		return err
	}
	mem, err := memory("initd-spec", spec)
	if err != nil {
		return err
	}
	defer unix.Close(mem)
	con := consoleFor()
	defer unix.Close(con)
	p, err := m.spawn("initd", groupOrchestrator, mem, []int{con, con, con})
	if err != nil {
		return err
	}
	p.boss = true
	// The program is in memory: this does not wait for a disk.
	loaded := func() bool { m.hear(p); return p.report == nil }
	if !m.await(startTime, loaded) {
		return errors.New("not loaded within " + seconds(startTime))
	}
	if p.stage != 0 {
		return errors.New("cannot " + p.stage.String() + ": " + syscall.Errno(p.errno).Error())
	}
	return nil
}
