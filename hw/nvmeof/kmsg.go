package nvmeof

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// logged is what the kernel's log says of a connection that failed: the status that the target answered with is nowhere else.
type logged struct {
	reason Reason
	text   string
}

// logTail reads what the kernel logs from now on (Documentation/ABI/testing/dev-kmsg).
type logTail struct{ fd int }

// openLog returns a tail that reads nothing where the log cannot be read.
func openLog() *logTail {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &logTail{-1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return &logTail{-1}
	}
	return &logTail{fd}
}

func (l *logTail) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
}

// maxRecords bounds what is read of a log that others fill meanwhile.
const maxRecords = 4096

// lines returns the text of each record since openLog.
func (l *logTail) lines() []string {
	var list []string
	if l.fd < 0 {
		return nil
	}
	record := make([]byte, 8192)
	for range maxRecords {
		n, err := unix.Read(l.fd, record)
		if err == unix.EPIPE { //nolint:errorlint // a raw errno; records were overwritten, go on with the next
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		// PRIORITY,SEQUENCE,TIME,FLAGS;TEXT\n KEY=VALUE\n…
		if _, text, ok := strings.Cut(string(record[:n]), ";"); ok {
			text, _, _ = strings.Cut(text, "\n")
			list = append(list, text)
		}
	}
	return list
}

// lineOf takes the kernel's word about a controller apart: "nvme nvme0: …".
func lineOf(line string) (controller, text string, ok bool) {
	rest, ok := strings.CutPrefix(line, "nvme ")
	if !ok {
		return "", "", false
	}
	controller, text, ok = strings.Cut(rest, ": ")
	return controller, text, ok && isController(controller)
}

// lastOf picks the line about a connection that failed: of a controller that is not there any more. Others that reconnect
// meanwhile log the same.
func lastOf(lines []string, gone func(controller string) bool) logged {
	var best logged
	for _, l := range lines {
		if text, ok := strings.CutPrefix(l, "nvme_fabrics: "); ok && best.reason == "" {
			best.text = text // options that it refuses belong to no controller yet
			continue
		}
		controller, text, ok := lineOf(l)
		if !ok || !gone(controller) {
			continue
		}
		if r := ofLine(text); r != "" || best.reason == "" {
			best = logged{reason: r, text: text}
		}
	}
	return best
}

func exists(controller string) bool {
	_, err := os.Lstat("/sys/class/nvme/" + controller)
	return err == nil
}

// ofLine knows the lines of nvmf_log_connect_error (drivers/nvme/host/fabrics.c) and of drivers/nvme/host/auth.c.
func ofLine(text string) Reason {
	switch {
	case strings.HasPrefix(text, "Connect Invalid Data Parameter, subsysnqn"):
		return NotFound
	case strings.HasPrefix(text, "Connect for subsystem") && strings.Contains(text, "is not allowed"),
		strings.HasPrefix(text, "Connect Invalid Data Parameter, hostnqn"):
		return HostRefused
	case strings.Contains(text, "controller is busy or not available"):
		return Busy
	case strings.Contains(text, "authentication required"):
		return AuthRequired
	case strings.Contains(text, "missing controller key"), strings.Contains(text, "controller authentication failed"):
		return NoAuth
	case strings.Contains(text, "authentication failed"):
		return AuthFailed
	}
	if strings.Contains(text, "no valid PSK found") {
		return NoPSK
	}
	if s, ok := strings.CutPrefix(text, "Connect command failed, error wo/DNR bit: "); ok {
		if status, err := strconv.Atoi(s); err == nil {
			return ofStatus(status)
		}
	}
	return ""
}

// ofStatus sorts the status of a Connect command.
func ofStatus(status int) Reason {
	switch status &^ statusDNR {
	case statusBusy:
		return Busy
	case statusInvalidParameter:
		return NotFound
	case statusInvalidHost:
		return HostRefused
	case statusAuthRequired:
		return AuthRequired
	case statusIncompatibleFormat:
		return NotNVMe
	}
	return Failed
}

// StatusError is a status other than success that a command ended with.
type StatusError struct {
	Op     string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the controller answers with status %#x", e.Op, e.Status)
}
