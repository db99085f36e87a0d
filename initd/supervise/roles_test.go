package supervise

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/initd/pid1/pid1test"
)

func TestMain(m *testing.M) {
	pid1test.Main(m, map[string]pid1test.Role{
		"daemon": daemon, "flaky": flaky, "exit": exitWith, "listen": listen, "notify": sendNotify, "abort": abort,
		"touch": touch, "tick": tick, "stubborn": stubborn, "there": there, "impostor": impostor, "env": showEnv,
	})
}

// daemon runs until SIGTERM.
func daemon([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	fmt.Println("up")
	<-c
	fmt.Println("bye")
	return 0
}

// flaky FILE N exits with 3 the first N times.
func flaky(args []string) int {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	_, _ = f.Write([]byte{'x'})
	st, err := f.Stat()
	n, _ := strconv.Atoi(args[1])
	if err != nil || int(st.Size()) <= n {
		fmt.Println("no luck")
		return 3
	}
	return daemon(nil)
}

func exitWith(args []string) int {
	n, _ := strconv.Atoi(args[0])
	fmt.Println("leaving")
	return n
}

// listen FILE ADDRESS listens once FILE is there.
func listen(args []string) int {
	awaitFixture(args[0])
	if _, err := net.Listen("tcp", args[1]); err != nil {
		fmt.Println(err)
		return 1
	}
	return daemon(nil)
}

// sendNotify FILE sends a status, and READY=1 once FILE is there.
func sendNotify(args []string) int {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Fprint(c, "STATUS=warming up\n")
	awaitFixture(args[0])
	fmt.Fprint(c, "STATUS=serving\nREADY=1\n")
	return daemon(nil)
}

// impostor PATH sends READY=1 to another service's socket.
func impostor(args []string) int {
	c, err := net.Dial("unixgram", args[0])
	if err != nil {
		return 1
	}
	fmt.Fprint(c, "READY=1\n")
	return daemon(nil)
}

func abort([]string) int {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(unix.SIGKILL)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	return 0
}

func touch(args []string) int {
	awaitFixture(args[0])
	if os.MkdirAll(args[1], 0o755) != nil || os.WriteFile(args[1]+"/pid", nil, 0o644) != nil {
		return 1
	}
	return daemon(nil)
}

// tick writes a numbered line now and then, and ends if it cannot.
func tick([]string) int {
	for i := 0; ; i++ {
		if _, err := fmt.Printf("tick %d\n", i); err != nil {
			return 1
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stubborn ignores SIGTERM, and so does what it starts.
func stubborn(args []string) int {
	signal.Ignore(unix.SIGTERM)
	if len(args) == 0 {
		if _, err := syscall.ForkExec(pid1test.Self, []string{pid1test.Self, "stubborn", "child"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}); err != nil {
			return 1
		}
		fmt.Println("deaf")
	}
	for {
		_ = unix.Pause()
	}
}

// there FILE exits 0 if FILE is there.
func there(args []string) int {
	if _, err := os.Stat(args[0]); err != nil {
		fmt.Println("Could not connect")
		return 1
	}
	return 0
}

func showEnv([]string) int {
	fmt.Printf("%d %d %s %s\n", os.Getuid(), os.Getgid(), os.Getenv("HOME"), os.Getenv("COLOUR"))
	return daemon(nil)
}

// awaitFixture waits for a file of the test; a fixture may look again and
// again.
func awaitFixture(path string) {
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
