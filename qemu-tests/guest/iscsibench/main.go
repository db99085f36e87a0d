// Iscsibench is the first process of a machine that is an iSCSI target and its own initiator: it measures the shipped initd and
// open-iscsi against that target over loopback, by turns, and tells the times as events.
//
// A login counts from the start of the command until every disk is there; a recovery from the target's return until a read
// that waited ends. It owns nothing and checks only what it needs.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/link"
	"initd/qemu-tests/guest/event"
	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/peer/lio"
)

const (
	targets   = 16
	rounds    = 3
	portal    = "127.0.0.1:3260"
	initiator = "iqn.2026-01.net.example:bench"
)

func main() {
	signal.Notify(make(chan os.Signal, 16))
	err := kernel.Mount()
	var port *event.Port
	if err == nil {
		port, err = event.Open()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "iscsibench:", err)
		_ = kernel.PowerOff()
		return
	}
	members := map[string]any{}
	if err := measure(port); err != nil {
		members["error"] = err.Error()
	}
	_ = port.Emit("end", members)
	_ = port.Drain()
	_ = kernel.PowerOff()
}

// side is one of those that are compared.
type side struct {
	name             string
	before           [][]string // commands that do not count
	all, one, logout [][]string
	keeper           []string // what makes lost connections anew
}

func iqn(i int) string { return fmt.Sprintf("iqn.2026-01.net.example:t%d", i) }

func sides() []side {
	initd := func(words ...string) []string { return append([]string{"/usr/bin/initd", "iscsi"}, words...) }
	adm := func(words ...string) []string { return append([]string{"/usr/sbin/iscsiadm"}, words...) }
	return []side{
		{"ours", nil, [][]string{initd("login", "--discover", portal, "--lun", "0")}, [][]string{initd("login", iqn(0), portal)},
			[][]string{initd("logout", "--all")}, initd("keep")},
		{"theirs", [][]string{adm("-m", "discovery", "-t", "st", "-p", portal)}, [][]string{adm("-m", "node", "-L", "all")},
			[][]string{adm("-m", "node", "-T", iqn(0), "-p", portal, "-l")}, [][]string{adm("-m", "node", "-u")}, nil},
	}
}

func measure(port *event.Port) error {
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	if err := link.LoopbackUp(); err != nil {
		return err
	}
	for _, dir := range []string{"/etc/iscsi", "/run/lock/iscsi", "/var/lib/iscsi", "/run/initd"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	err := errors.Join(
		os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte("InitiatorName="+initiator+"\n"), 0o600),
		os.WriteFile("/etc/iscsi/iscsid.conf", []byte("node.startup = manual\nnode.session.scan = auto\nnode.session.timeo.replacement_timeout = 600\n"), 0o600))
	if err != nil {
		return err
	}
	cfg := lio.Config{}
	for i := range targets {
		cfg.Targets = append(cfg.Targets, lio.Target{IQN: iqn(i), Portals: []string{portal}, LUNs: []lio.LUN{{Number: 0, MiB: 4}}})
	}
	machine, err := lio.Start(context.Background(), cfg)
	if err != nil {
		return err
	}
	daemon := exec.Command("/usr/sbin/iscsid", "-f")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return err
	}
	for range rounds {
		for _, s := range sides() {
			if err := s.round(port, machine); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func (s side) round(port *event.Port, machine *lio.Machine) error {
	tell := func(what string, took time.Duration) error {
		return port.Emit("took", map[string]any{"side": s.name, "what": what, "ms": float64(took.Microseconds()) / 1000})
	}
	if err := run(s.before); err != nil {
		return err
	}
	sessions, disks, err := s.login(s.all, targets)
	if err == nil {
		err = errors.Join(tell("sixteen", sessions), tell("sixteen-disks", disks), run(s.logout), gone())
	}
	if err != nil {
		return err
	}
	if sessions, disks, err = s.login(s.one, 1); err != nil {
		return err
	}
	if err := errors.Join(tell("single", sessions), tell("single-disks", disks)); err != nil {
		return err
	}
	if s.keeper != nil {
		end, err := s.keep()
		if err != nil {
			return err
		}
		defer end()
	}
	took, err := recovery(machine)
	if err != nil {
		return err
	}
	return errors.Join(tell("recovery", took), run(s.logout), gone())
}

// keep starts what makes lost connections anew; it listens when it has said its first line.
func (s side) keep() (end func(), err error) {
	keeper := exec.Command(s.keeper[0], s.keeper[1:]...)
	keeper.Stderr = os.Stderr
	out, err := keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := keeper.Start(); err != nil {
		return nil, err
	}
	end = func() {
		_ = keeper.Process.Kill()
		_ = keeper.Wait()
	}
	line := bufio.NewReader(out)
	if _, err := line.ReadString('\n'); err != nil {
		end()
		return nil, fmt.Errorf("%q: %w", s.keeper, err)
	}
	go func() { _, _ = io.Copy(io.Discard, line) }() // nobody reads what it tells of sessions
	return end, nil
}

// login says how long it took until so many sessions were logged in, and until their disks were there.
func (s side) login(commands [][]string, count int) (sessions, disks time.Duration, err error) {
	begun := time.Now()
	ran := make(chan error, 1)
	go func() { ran <- run(commands) }()
	if err := until(func() (bool, error) { return loggedIn() == count, nil }, begun); err != nil {
		return 0, 0, errors.Join(err, <-ran)
	}
	sessions = time.Since(begun)
	rescued := false
	err = until(func() (bool, error) {
		n, err := diskCount()
		if !rescued && time.Since(begun) > 30*time.Second { // iscsid has been seen to forget one
			rescued = true
			err = errors.Join(err, run([][]string{{"/usr/sbin/iscsiadm", "-m", "session", "-R"}}))
		}
		return n == count, err
	}, begun)
	disks = time.Since(begun)
	return sessions, disks, errors.Join(err, <-ran)
}

func loggedIn() int {
	n := 0
	states, _ := filepath.Glob("/sys/class/iscsi_session/*/state")
	for _, f := range states {
		if b, err := os.ReadFile(f); err == nil && string(b) == "LOGGED_IN\n" {
			n++
		}
	}
	return n
}

func diskCount() (int, error) {
	list, err := filepath.Glob("/dev/sd*")
	return len(list), err
}

func run(commands [][]string) error {
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", c, err, out)
		}
	}
	return nil
}

func gone() error {
	return until(func() (bool, error) { n, err := diskCount(); return n == 0, err }, time.Now())
}

// until waits for something that has no event.
func until(good func() (bool, error), since time.Time) error {
	for {
		ok, err := good()
		if ok || err != nil {
			return err
		}
		if time.Since(since) > time.Minute {
			n, _ := diskCount()
			return fmt.Errorf("after a minute: %d sessions, %d disks", loggedIn(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// recovery takes the target away for a while, and says how long after its return a read ends that has waited.
func recovery(machine *lio.Machine) (time.Duration, error) {
	list, err := filepath.Glob("/dev/sd*")
	if err != nil || len(list) != 1 {
		return 0, fmt.Errorf("%d disks: %w", len(list), err)
	}
	var f *os.File
	err = until(func() (bool, error) { // the node is there a little before the disk can be opened
		f, err = os.OpenFile(list[0], os.O_RDONLY|unix.O_DIRECT, 0)
		if errors.Is(err, unix.ENXIO) {
			return false, nil
		}
		return true, err
	}, time.Now())
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	if err := machine.Change(lio.Change{Do: "off", Target: iqn(0)}); err != nil {
		return 0, err
	}
	read := make(chan error, 1)
	go func() {
		_, err := f.ReadAt(b, 0)
		read <- err
	}()
	time.Sleep(7 * time.Second) // both have tried several times by then
	if err := machine.Change(lio.Change{Do: "on", Target: iqn(0)}); err != nil {
		return 0, err
	}
	begun := time.Now()
	select {
	case err := <-read:
		return time.Since(begun), err
	case <-time.After(time.Minute):
		return 0, errors.New("the read did not end")
	}
}
