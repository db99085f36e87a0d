package link

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// hang is a guard, never a measure.
const hang = time.Minute

// roleVariable tells the test binary which part it plays in a namespace of its own.
const roleVariable = "LINK_TEST_ROLE"

// TestMain plays a peer where it is asked to: a process that holds a network namespace until its standard input ends.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "peer" {
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// namespaces makes a network namespace of its own for the command, with a user namespace around it where that is needed.
func namespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// inNamespace runs the calling test in a process of its own, whose threads are all in a new network namespace; it returns
// true there. On the other side the test has passed or failed as it did there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(roleVariable) == t.Name() {
		return true
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v=true", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), roleVariable+"="+t.Name())
	cmd.SysProcAttr = namespaces()
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("make a network namespace: %v: run the tests as root, or allow user namespaces", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	return false
}

// peer is another machine: a namespace at the other end of a wire.
type peer struct {
	t   *testing.T
	pid int
}

// wireUp makes a veth pair: near here, far at a peer. Both are up; nothing has an address.
func wireUp(t *testing.T, near, far string) *peer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=peer")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the peer says %q, %v", line, err)
	}
	p := &peer{t: t, pid: cmd.Process.Pid}
	p.plug(near, far)
	return p
}

func (p *peer) plug(near, far string) {
	p.t.Helper()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: near}, PeerName: far, PeerNamespace: netlink.NsPid(p.pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		p.t.Fatalf("make a veth pair: %v", err)
	}
	p.ip("link", "set", "lo", "up")
	p.ip("link", "set", far, "up")
}

// command runs a program in the peer's namespace.
func (p *peer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), "nsenter", append([]string{"--net=/proc/" + strconv.Itoa(p.pid) + "/ns/net", "--", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// ip configures the peer with iproute2.
func (p *peer) ip(args ...string) string {
	p.t.Helper()
	out, err := p.command("ip", args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		p.t.Fatalf("%v: install the Debian packages iproute2 and util-linux", err)
	}
	if err != nil {
		p.t.Fatalf("peer: ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// up brings a link of this side up and waits for its carrier.
func up(t *testing.T, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, name+" has a carrier", func(s *State) bool {
		i, err := s.Find(Match{Name: name})
		return err == nil && i.Carrier
	})
}

// reaches waits until the machine's state is as is says.
func reaches(t *testing.T, what string, is func(*State) bool) *State {
	t.Helper()
	states := watching(t)
	guard := time.After(hang)
	var last *State
	for {
		select {
		case last = <-states:
			if is(last) {
				return last
			}
		case <-guard:
			t.Fatalf("waited for: %s; the state is %+v", what, last)
		}
	}
}

// watching gives every state until the test ends.
func watching(t *testing.T) <-chan *State {
	t.Helper()
	states := make(chan *State)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := Watch(t.Context(), func(s *State) {
			select {
			case states <- s:
			case <-t.Context().Done():
			}
		}); err != nil {
			t.Errorf("watch: %v", err)
		}
	}()
	t.Cleanup(func() { <-ended })
	return states
}
