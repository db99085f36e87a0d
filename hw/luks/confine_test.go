//go:build !race

package luks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// playConfined does one forbidden thing after Confine; the test looks at how the process ends.
func playConfined(name string) error {
	pipe := make([]int, 2)
	if err := unix.Pipe(pipe); err != nil {
		return err
	}
	statuses, parked, err := threads(pipe[0])
	if err != nil {
		return err
	}
	if err := Confine(); err != nil {
		return err
	}
	denied := func(what string, err error) error {
		if !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%s gives %v, want EPERM", what, err)
		}
		return nil
	}
	switch name {
	case "confined: compute":
		// what Derive needs goes on: threads, memory, the collector, descriptors that are open
		done := make(chan []byte)
		for range 32 {
			go func() { done <- make([]byte, 8<<20) }()
		}
		for range 32 {
			<-done
		}
		if _, err := unix.Write(pipe[1], []byte{1}); err != nil {
			return err
		}
		<-parked
		for _, status := range statuses {
			if err := checkStatus(status); err != nil {
				return err
			}
		}
		_, err := fmt.Println("computed")
		return err
	case "confined: open":
		_, err := os.Open("/dev/null")
		return denied("open", err)
	case "confined: ioctl":
		_, err := unix.IoctlGetInt(0, unix.BLKGETSIZE64)
		return denied("ioctl", err)
	case "confined: map code":
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		return denied("mmap", err)
	case "confined: signal another process":
		return denied("kill", unix.Kill(os.Getppid(), 0))
	case "confined: read keys":
		_, err := unix.KeyctlBuffer(unix.KEYCTL_READ, unix.KEY_SPEC_SESSION_KEYRING, make([]byte, 8), 0)
		return denied("keyctl", err)
	case "confined: become somebody":
		return denied("setuid", unix.Setresuid(0, 0, 0))
	case "confined: execute":
		return unix.Exec("/proc/self/exe", []string{"x"}, nil)
	case "confined: connect":
		_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		return err
	case "confined: trace":
		return unix.PtraceAttach(os.Getppid())
	case "confined: another ABI":
		_, _, errno := unix.RawSyscall(unix.SYS_GETPID|0x40000000, 0, 0, 0)
		return errno
	}
	return fmt.Errorf("no role %s", name)
}

// threads starts one that is asleep in the kernel, and opens what /proc says of all there are.
func threads(pipe int) (statuses []*os.File, parked chan int, err error) {
	parked = make(chan int)
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(ready)
		n, _ := unix.Read(pipe, make([]byte, 1))
		parked <- n
	}()
	<-ready
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, nil, err
	}
	for _, task := range tasks {
		status, err := os.Open("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			return nil, nil, err
		}
		statuses = append(statuses, status)
	}
	if len(statuses) < 2 {
		return nil, nil, errors.New("there is one thread only")
	}
	return statuses, parked, nil
}

func checkStatus(status *os.File) error {
	text := make([]byte, 8192)
	n, err := status.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(string(text[:n]), "\n"+want+"\n") {
			return fmt.Errorf("%s: want %q in\n%s", status.Name(), want, text[:n])
		}
	}
	return nil
}

func TestAConfinedProcess(t *testing.T) {
	for _, row := range []struct {
		name, role string
		killed     bool
	}{
		{"computes, and every thread of it is confined", "compute", false},
		{"cannot open", "open", false},
		{"has no ioctl", "ioctl", false},
		{"cannot map code", "map code", false},
		{"cannot signal another process", "signal another process", false},
		{"cannot read keys", "read keys", false},
		{"cannot become somebody", "become somebody", false},
		{"dies if it executes", "execute", true},
		{"dies if it connects", "connect", true},
		{"dies if it traces", "trace", true},
		{"dies if it tries another ABI", "another ABI", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := roleCommand(t.Context(), "confined: "+row.role, nil)
			out, err := cmd.CombinedOutput()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGSYS; killed != row.killed {
				t.Fatalf("it ended with %v: %s", err, out)
			}
			if !row.killed && err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
