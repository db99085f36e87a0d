package main

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// calls are the system calls that stop; the tracer sorts them into classes.
func calls() []uint32 {
	return []uint32{
		unix.SYS_MOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_UMOUNT2, unix.SYS_ADD_KEY, unix.SYS_KEYCTL,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_CONNECT,
		unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
		unix.SYS_WRITE, unix.SYS_SENDMSG,
	}
}

// filter makes those calls, and ioctls but for a terminal's, stop for the tracer, in this thread and all that it becomes
// and starts. A filter that initd installs itself comes on top; the stricter verdict wins (seccomp(2)).
func filter() error {
	const (
		nr, arg1 = 0, 24 // offsets in struct seccomp_data (include/uapi/linux/seccomp.h)
		terminal = 'T' << 8
	)
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	load := func(offset uint32) unix.SockFilter { return stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	stop := stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_TRACE)
	pass := stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW)
	program := []unix.SockFilter{load(nr)}
	for _, call := range calls() {
		program = append(program, equal(call, 0, 1), stop)
	}
	program = append(program, equal(unix.SYS_IOCTL, 1, 0), pass,
		load(arg1), stmt(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0xff00), equal(terminal, 0, 1), pass, stop)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
