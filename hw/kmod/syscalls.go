package kmod

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// moduleInitCompressedFile is MODULE_INIT_COMPRESSED_FILE (include/uapi/linux/module.h, since 5.17).
const moduleInitCompressedFile = 4

// syscalls is the running kernel.
type syscalls struct{}

func (syscalls) finit(f *os.File, parameters string, compressed bool) error {
	flags := 0
	if compressed {
		flags = moduleInitCompressedFile
	}
	err := unix.FinitModule(int(f.Fd()), parameters, flags)
	runtime.KeepAlive(f)
	return err
}

func (syscalls) init(image []byte, parameters string) error {
	return unix.InitModule(image, parameters)
}

// remove does not wait for users: a module in use is EWOULDBLOCK.
func (syscalls) remove(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }

// hint says what the kernel means when it refuses a module (kernel/module/main.c, signing.c). Errors of opening the
// file, which look alike, have none: they explain themselves.
func hint(err error) string {
	no, ok := err.(unix.Errno)
	if !ok {
		return ""
	}
	switch no {
	case unix.EPERM:
		return "the kernel lets nobody load it: module_blacklist= on the command line, kernel.modules_disabled, lockdown, or no CAP_SYS_MODULE"
	case unix.ENOENT:
		return "it needs a symbol that the kernel does not have; the kernel log says which"
	case unix.ENOEXEC:
		return "it was not made for this kernel"
	case unix.EKEYREJECTED, unix.ENOKEY:
		return "its signature is not by a key that the kernel trusts"
	case unix.ENODEV:
		return "this machine has no hardware for it"
	case unix.EINVAL:
		return "a parameter has a value that it does not take, or the file is damaged; the kernel log says which"
	case unix.EWOULDBLOCK:
		return "it is in use"
	}
	return ""
}
