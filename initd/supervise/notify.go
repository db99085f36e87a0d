package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/wire"
)

// maxNotify is the size of a notify message that is read, in bytes, as
// systemd has it.
const maxNotify = 4096

// listenNotify binds the socket that NOTIFY_SOCKET names. Every user may send
// to it; who did is checked for each message.
func listenNotify(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make notify socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make notify socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make notify socket %s: %w", path, err)
	}
	return f, nil
}

// hear reads notify messages until the socket is closed.
func (u *unit) hear(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		var b [maxNotify]byte
		var oob [512]byte
		var n, oobn int
		var got error
		if raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, got = unix.Recvmsg(int(fd), b[:], oob[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(got, unix.EAGAIN)
		}) != nil {
			return
		}
		if got != nil {
			if errors.Is(got, unix.EINTR) {
				continue
			}
			return
		}
		if pid := sender(oob[:oobn]); pid > 0 {
			u.notified(pid, string(b[:n]))
		}
	}
}

// sender returns who sent a message, and closes descriptors that came along:
// for BARRIER=1 that is the answer.
func sender(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	pid := 0
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		}
	}
	wire.CloseAll(wire.Rights(oob))
	return pid
}

// notified takes one message. Source: sd_notify(3).
func (u *unit) notified(pid int, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.proc
	if p == nil {
		return
	}
	if pid != p.PID && !inGroup(pid, groupPrefix+u.name) {
		u.log.say(fmt.Sprintf("[a notify message of process %d, which is not of this service, was ignored]", pid))
		return
	}
	n := parseNotify(text)
	if n.status != "" && n.status != u.text {
		u.text = n.status
		u.stir()
	}
	switch {
	case n.ready && (u.phase == Starting || u.phase == Loading) && u.def.Ready.Notify:
		u.ready()
	case n.status != "" && u.phase == Starting && u.def.Ready.Notify:
		u.because("waiting for READY=1: " + n.status)
	}
	if n.errno != 0 {
		u.log.say("[it reports: " + n.errno.Error() + "]")
	}
}

type notification struct {
	ready  bool
	status string
	errno  syscall.Errno
}

func parseNotify(text string) notification {
	var n notification
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch key {
		case "READY":
			n.ready = value == "1"
		case "STATUS":
			n.status = printable([]byte(value))
		case "ERRNO":
			var e int
			if _, err := fmt.Sscan(value, &e); err == nil && e > 0 && e < 4096 {
				n.errno = syscall.Errno(e)
			}
		}
	}
	return n
}

// inGroup tells whether a process is in a cgroup of initd or below it, as
// /proc/PID/cgroup says.
func inGroup(pid int, group string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && strings.Contains(path+"/", "/initd/"+group+"/") {
			return true
		}
	}
	return false
}
