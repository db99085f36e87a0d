package main

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/rcu"
)

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// firstMounts are what every program expects, in their order.
var firstMounts = [...]struct {
	where, kind string
	flags       uintptr
	options     string
}{
	{"/proc", "proc", noExec, ""},
	{"/sys", "sysfs", noExec, ""},
	{"/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"/sys/fs/cgroup", "cgroup2", noExec, "nsdelegate,memory_recursiveprot"},
}

// devLinks are the links in /dev that devtmpfs does not make
// (Documentation/admin-guide/devices.txt, "Compulsory links").
var devLinks = [...][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

// mountAll makes the first mounts. What is a mount point already stays: an
// initramfs before us, or a container, knows why.
func mountAll(say func(string)) {
	for _, m := range firstMounts {
		if isMountPoint(m.where) {
			continue
		}
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			say("make " + m.where + ": " + err.Error())
			continue
		}
		err := unix.Mount(m.kind, m.where, m.kind, m.flags, m.options)
		if errors.Is(err, unix.EINVAL) && m.options != "" {
			err = unix.Mount(m.kind, m.where, m.kind, m.flags, "") // an older kernel, without one of the options
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			say("mount " + m.where + ": " + err.Error())
		}
		if m.where == "/sys" {
			hurry(true)
		}
	}
	for _, l := range devLinks {
		if err := os.Symlink(l[0], l[1]); err != nil && !errors.Is(err, os.ErrExist) {
			say(err.Error())
		}
	}
}

func isMountPoint(p string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(p, &here) == nil && unix.Stat(path.Dir(p), &above) == nil && here.Dev != above.Dev
}

// stayInMemory makes sure that neither init nor its stub is ever read from a
// disk again, which may be dead by then: started from one, it goes on as a
// copy in a memfd, and its pages stay once they are there.
func stayInMemory(say func(string)) {
	if !inMemory("/proc/self/exe") {
		if err := execCopy(); err != nil {
			say("run from memory: " + err.Error())
		}
	}
	const onFault = 4 // MCL_ONFAULT, include/uapi/asm-generic/mman.h
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | onFault); err != nil {
		say("lock memory: " + err.Error())
	}
}

func inMemory(file string) bool {
	var st unix.Statfs_t
	if unix.Statfs(file, &st) != nil {
		return true // no /proc: nothing that could be done
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
}

// execCopy executes a copy of this image in a memfd; it returns on failure
// only.
func execCopy() error {
	image, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3 there is no MFD_EXEC
		fd, err = unix.MemfdCreate("init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "init")
	defer f.Close()
	if _, err := f.Write(image); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return os.NewSyscallError("seal", err)
	}
	return os.NewSyscallError("exec", unix.Exec("/proc/self/fd/"+itoa(fd), os.Args, os.Environ()))
}

// hurry hurries the kernel where this is PID 1 of the machine and of no
// container. It ends when the boot has settled, by the orchestrator, or with the
// hand-over.
func hurry(on bool) {
	if ownsMachine() {
		rcu.Expedite("/", on)
	}
}
