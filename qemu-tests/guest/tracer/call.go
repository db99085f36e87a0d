package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
	"initd/qemu-tests/guest/tracer/order"
)

// call is a system call at which a thread has stopped. An empty class: none
// of those that are looked at.
type call struct {
	class order.Class
	pid   int // of the process
	of    string
	what  string
}

// read says what a thread is about to do.
func (t *tracer) read(tid int) (call, error) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return call{}, err
	}
	c := call{}
	switch regs.Orig_rax {
	case unix.SYS_MOUNT:
		c.class, c.what = order.Mount, fmt.Sprintf("%s on %s", text(tid, regs.Rdi), text(tid, regs.Rsi))
	case unix.SYS_MOVE_MOUNT:
		c.class, c.what = order.Mount, "move_mount to "+text(tid, regs.R10)
	case unix.SYS_UMOUNT2:
		c.class, c.what = order.Umount, text(tid, regs.Rdi)
	case unix.SYS_IOCTL:
		c.class, c.what = order.Ioctl, ioctl(tid, uint32(regs.Rsi), regs.Rdi, regs.Rdx)
	case unix.SYS_ADD_KEY:
		c.class, c.what = order.Key, fmt.Sprintf("add_key %s %s", text(tid, regs.Rdi), text(tid, regs.Rsi))
	case unix.SYS_KEYCTL:
		c.class, c.what = order.Key, keyctl(regs)
	case unix.SYS_INIT_MODULE:
		c.class, c.what = order.Module, fmt.Sprintf("init_module of %d bytes", regs.Rsi)
	case unix.SYS_FINIT_MODULE:
		c.class, c.what = order.Module, file(tid, regs.Rdi)
	case unix.SYS_CONNECT:
		c.class, c.what = order.Connect, address(peek(tid, regs.Rsi, min(int(regs.Rdx), 128)))
	case unix.SYS_RENAME:
		c.class, c.what = order.Rename, fmt.Sprintf("%s to %s", text(tid, regs.Rdi), text(tid, regs.Rsi))
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		c.class, c.what = order.Rename, fmt.Sprintf("%s to %s", text(tid, regs.Rsi), text(tid, regs.R10))
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		c.class, c.what = order.Fsync, file(tid, regs.Rdi)
	case unix.SYS_WRITE:
		if file(tid, regs.Rdi) != "/run/initd/ledger" {
			return call{}, nil
		}
		c.class, c.what = order.Ledger, strings.TrimSpace(string(peek(tid, regs.Rsi, min(int(regs.Rdx), 200))))
	case unix.SYS_SENDMSG:
		if file(tid, regs.Rdi) != t.link {
			return call{}, nil
		}
		if c.class, c.what = order.Init, message(tid, regs); c.what == "" {
			return call{}, nil
		}
	default:
		return call{}, nil
	}
	var err error
	if c.pid, err = process(tid); err != nil {
		return call{}, unix.ESRCH
	}
	c.of = program(c.pid)
	return c, nil
}

// process is the pid of a thread's process.
func process(tid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("\nTgid:"))
	pid := 0
	_, err = fmt.Sscan(string(rest), &pid)
	return pid, err
}

// peek reads a thread's memory, as far as it is there.
func peek(tid int, address uint64, n int) []byte {
	b := make([]byte, max(n, 0))
	got, err := unix.PtracePeekData(tid, uintptr(address), b)
	if err != nil {
		got = max(got, 0)
	}
	return b[:min(got, len(b))]
}

// text reads a string that ends with zero.
func text(tid int, address uint64) string {
	if address == 0 {
		return ""
	}
	b, _, _ := bytes.Cut(peek(tid, address, 128), []byte{0})
	return string(b)
}

// keyctl names its operation (include/uapi/linux/keyctl.h), and the permissions that one sets.
func keyctl(regs unix.PtraceRegs) string {
	names := map[uint64]string{unix.KEYCTL_JOIN_SESSION_KEYRING: "join", unix.KEYCTL_REVOKE: "revoke", unix.KEYCTL_SETPERM: "setperm",
		unix.KEYCTL_LINK: "link", unix.KEYCTL_UNLINK: "unlink", unix.KEYCTL_SEARCH: "search", unix.KEYCTL_INVALIDATE: "invalidate"}
	name, ok := names[regs.Rdi]
	if !ok {
		name = fmt.Sprint(regs.Rdi)
	}
	if regs.Rdi == unix.KEYCTL_SETPERM {
		name += fmt.Sprintf(" %#x", uint32(regs.Rdx))
	}
	return "keyctl " + name
}

func file(tid int, fd uint64) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	if err != nil {
		return "?"
	}
	return name
}

// ioctl names those of device mapper with the device's name (include/uapi/linux/dm-ioctl.h: struct dm_ioctl has it at
// offset 48); of others, number and file.
func ioctl(tid int, cmd uint32, fd, arg uint64) string {
	names := []string{"DM_VERSION", "DM_REMOVE_ALL", "DM_LIST_DEVICES", "DM_DEV_CREATE", "DM_DEV_REMOVE", "DM_DEV_RENAME",
		"DM_DEV_SUSPEND", "DM_DEV_STATUS", "DM_DEV_WAIT", "DM_TABLE_LOAD", "DM_TABLE_CLEAR", "DM_TABLE_DEPS", "DM_TABLE_STATUS",
		"DM_LIST_VERSIONS", "DM_TARGET_MSG", "DM_DEV_SET_GEOMETRY"}
	const dm = 0xfd
	if nr := cmd & 0xff; cmd>>8&0xff == dm && int(nr) < len(names) {
		return names[nr] + " " + text(tid, arg+48)
	}
	return fmt.Sprintf("%#x on %s", cmd, file(tid, fd))
}

// address reads a struct sockaddr.
func address(b []byte) string {
	if len(b) < 2 {
		return "?"
	}
	family := binary.NativeEndian.Uint16(b)
	switch {
	case family == unix.AF_INET && len(b) >= 8:
		a, _ := netip.AddrFromSlice(b[4:8])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[2:])).String()
	case family == unix.AF_INET6 && len(b) >= 24:
		a, _ := netip.AddrFromSlice(b[8:24])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[2:])).String()
	case family == unix.AF_UNIX:
		return fmt.Sprintf("unix %q", strings.TrimRight(string(b[2:]), "\x00"))
	}
	return fmt.Sprintf("family %d", family)
}

// message names a record to init; heartbeats, which come by the clock, are not
// counted. msg_iov is at 16 in struct msghdr, iov_base at 0 in struct iovec.
func message(tid int, regs unix.PtraceRegs) string {
	head := peek(tid, regs.Rsi, 24)
	if len(head) < 24 {
		return ""
	}
	part := peek(tid, binary.NativeEndian.Uint64(head[16:]), 8)
	if len(part) < 8 {
		return ""
	}
	r, err := wire.Decode(peek(tid, binary.NativeEndian.Uint64(part), wire.RecordSize))
	if err != nil || r.Message.Op() == wire.OpHeartbeat {
		return ""
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", r.Message), "*wire.")
}

// tell emits an event with the members of v.
func (t *tracer) tell(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	members := map[string]any{}
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	return t.port.Emit(name, members)
}
