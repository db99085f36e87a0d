package nvmeof

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fabricsDevice takes one connection's options in one write, and says in a read of the same descriptor what has become of
// it (nvmf_dev_write, drivers/nvme/host/fabrics.c). Closing it keeps the controller.
const fabricsDevice = "/dev/nvme-fabrics"

// Connect makes a connection and returns the controller's name ("nvme0"). Its namespaces appear after that: their
// events say when. It blocks, without an end that a context could set, for up to 3 s where nobody answers, 10 s where
// somebody accepts and is silent, and 60 s a command where a target stalls; all that time nobody else on this machine can connect. A
// failure is a *ConnectError.
func Connect(r Request) (string, error) {
	if r.Options.TLS {
		if e := readyForTLS(&r.Options); e != nil {
			e.Target = r.Target
			return "", e
		}
	}
	options, err := r.encode()
	if err != nil {
		return "", &ConnectError{Target: r.Target, Reason: BadOption, Detail: err.Error()}
	}
	defer options.Destroy()
	fd, err := unix.Open(fabricsDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", openError(r.Target, err)
	}
	defer unix.Close(fd)
	log := openLog()
	defer log.close()
	if err := write(fd, options.Bytes()); err != nil {
		line := lastOf(log.lines(), func(c string) bool { return !exists(c) })
		refused := asError(r.Target, err, line)
		if refused.Reason == AuthFailed && r.CtrlSecret != nil { // the kernel tells the two apart no more than this
			refused.Detail = "this host's, or the one by which the subsystem is to prove itself"
		}
		return "", refused
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	if err != nil {
		return "", asError(r.Target, fmt.Errorf("read the answer: %w", err), logged{})
	}
	name, err := parseAnswer(string(answer[:n]))
	if err != nil {
		return "", &ConnectError{Target: r.Target, Reason: Failed, Detail: err.Error()}
	}
	return name, nil
}

func openError(t Target, err error) error {
	e := &ConnectError{Target: t, Reason: Failed, Detail: "open " + fabricsDevice}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		e.Reason, e.Detail = NoModule, fabricsDevice+" is not there"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Reason = NotAllowed
	}
	errors.As(err, &e.Errno)
	return e
}

// write hands the options over with all signals held back from this thread: one that arrives while the kernel waits for the TCP
// connection makes it begin anew.
func write(fd int, options []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before); err != nil {
		return fmt.Errorf("hold signals back: %w", err)
	}
	n, err := unix.Write(fd, options)
	if merr := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); merr != nil && err == nil {
		return fmt.Errorf("let signals through: %w", merr)
	}
	if err == nil && n != len(options) {
		return fmt.Errorf("only %d of %d bytes of options were taken", n, len(options))
	}
	return err
}

// parseAnswer reads "instance=N,cntlid=M": N of -1 means that nothing was made.
func parseAnswer(text string) (string, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	for field := range strings.SplitSeq(line, ",") {
		if v, ok := strings.CutPrefix(field, "instance="); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || n < 0 {
				break
			}
			return fmt.Sprintf("nvme%d", n), nil
		}
	}
	return "", fmt.Errorf("the kernel took the options and answers %.80q", line)
}
