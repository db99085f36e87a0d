package confine

import "golang.org/x/sys/unix"

// program is the list as a classic BPF program over struct seccomp_data (include/uapi/linux/seccomp.h).
func (l List) program() []unix.SockFilter {
	const (
		nr, arch, args = 0, 4, 16   // offsets; arguments are 64 bits, little-endian
		x32            = 0x40000000 // system calls of the x32 ABI have this bit
	)
	kill, refuse := end(unix.SECCOMP_RET_KILL_PROCESS), end(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
	program := []unix.SockFilter{
		load(arch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), kill,
		load(nr), jump(unix.BPF_JGE, x32, 0, 1), kill,
	}
	for _, verdict := range []struct {
		calls []uint32
		end   unix.SockFilter
	}{
		{l.Allow, end(unix.SECCOMP_RET_ALLOW)},
		{l.Kill, kill},
		{l.Missing, end(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))},
	} {
		for _, call := range verdict.calls {
			program = append(program, jump(unix.BPF_JEQ, call, 0, 1), verdict.end)
		}
	}
	for _, r := range l.Rules {
		body := append([]unix.SockFilter{load(args + 8*uint32(r.argument))}, r.tests...)
		body = append(body, refuse)
		// the rest of a rule is skipped unless it is its call
		program = append(program, jump(unix.BPF_JEQ, r.call, 0, uint8(len(body))))
		program = append(program, body...)
	}
	return append(program, refuse)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func end(verdict uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
}
