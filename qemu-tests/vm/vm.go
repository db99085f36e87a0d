package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Guard is the usual hang guard of a wait: far beyond what a noisy machine takes, short enough for a person to wait.
const Guard = 3 * time.Minute

// bootGuard bounds the time until the kernel hands over to /init.
const bootGuard = 2 * time.Minute

// bootTries: about one emulated boot in 90 dies of the known oops before /init.
const bootTries = 4

// VM is one machine of a test. Its methods, except where they say otherwise, fail the test on errors and so belong to
// the test's own goroutine.
type VM struct {
	t    testing.TB
	name string
	spec spec
	dir  string // artefacts

	boots   int // how many machines Again made of this one, itself included
	run     *run
	initrd  string
	garbage garbage
}

// garbage collects what came on the event port and was no event.
type garbage struct {
	mu    sync.Mutex
	lines []string
}

// New describes a machine: 2 CPUs, 512 MiB, the bootstrap's kernel, no disks, no wires. The methods Initramfs, Append,
// Disk and Wire add to it, Start boots it. It ends with the test.
func New(t testing.TB, options ...Option) *VM {
	t.Helper()
	s := spec{name: "vm", memory: 512, cpus: 2}
	for _, o := range options {
		o(&s)
	}
	if s.kernel == "" {
		s.kernel = KernelFile(t, "vmlinuz")
	}
	return newVM(t, s, 1)
}

func newVM(t testing.TB, s spec, boots int) *VM {
	t.Helper()
	m := &VM{t: t, name: s.name, spec: s, boots: boots}
	m.dir = filepath.Join(artefactsOf(t), s.name)
	if boots > 1 {
		m.name = fmt.Sprintf("%s (boot %d)", s.name, boots)
		m.dir = fmt.Sprintf("%s-%d", m.dir, boots)
	}
	if err := errors.Join(os.RemoveAll(m.dir), os.MkdirAll(m.dir, 0o755)); err != nil {
		t.Fatalf("%s: make the folder of artefacts: %v", m.name, err)
	}
	t.Cleanup(m.finish)
	return m
}

// Initramfs adds archives; the kernel unpacks them in this order, later files replace earlier ones.
func (m *VM) Initramfs(paths ...string) *VM {
	m.spec.initramfs = append(m.spec.initramfs, paths...)
	return m
}

// VGA gives the machine a screen, and makes it a console beside the serial line, which stays the preferred one. /dev/vcs1
// has what it shows.
func (m *VM) VGA() *VM {
	m.spec.extra = append(m.spec.extra, "-device", "VGA,romfile=")
	return m.Append("console=tty0", "console=ttyS0")
}

// Append adds kernel arguments, after "console=ttyS0 panic=-1 oops=panic".
func (m *VM) Append(args ...string) *VM {
	m.spec.append = append(m.spec.append, args...)
	return m
}

// With applies options to a machine that is not started yet.
func (m *VM) With(options ...Option) *VM {
	for _, o := range options {
		o(&m.spec)
	}
	return m
}

// Disk adds disks that are there from the start.
func (m *VM) Disk(disks ...*Disk) *VM {
	m.spec.disks = append(m.spec.disks, disks...)
	return m
}

// Wire adds a network interface (virtio-net) with this MAC address on a wire.
func (m *VM) Wire(w *Wire, mac string) *VM {
	m.spec.nics = append(m.spec.nics, nic{wire: w, mac: mac})
	return m
}

// Again describes the same machine for its next boot: same disks and wires, its own console and events. The machine has
// to have ended before the new one starts.
func (m *VM) Again() *VM {
	m.t.Helper()
	return newVM(m.t, m.spec.clone(), m.boots+1)
}

// Start boots the machine and returns when its kernel has handed over to /init. A kernel that dies before that of the one
// known bug of emulated boots (see diedOfEmulation) is booted again; everything else fails the test.
func (m *VM) Start() *VM {
	m.t.Helper()
	StartAll(m.t, m)
	return m
}

// StartAll starts machines at the same time and returns when all kernels have handed over to their /init.
func StartAll(t testing.TB, machines ...*VM) {
	t.Helper()
	accel := ProbeAccelerator(t)
	errs := make([]error, len(machines))
	var wg sync.WaitGroup
	for i, m := range machines {
		wg.Go(func() { errs[i] = m.boot(accel) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (m *VM) boot(accel Accelerator) error {
	if m.run != nil {
		return fmt.Errorf("%s: it was started before; for the next boot use Again", m.name)
	}
	var err error
	if m.initrd, err = m.concatenate(); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	for try := 1; ; try++ {
		r, err := m.launch(accel, m.initrd)
		if err != nil {
			return fmt.Errorf("%s: start: %w", m.name, err)
		}
		m.run = r
		if m.spec.from != "" {
			err = r.restore(m.spec.from)
		} else {
			err = r.reachInit()
		}
		if err == nil {
			return nil
		}
		r.kill()
		if try < bootTries && diedOfEmulation(r.console.Lines()) {
			m.t.Logf("%s: the kernel died of the known oops of emulated boots; boot %d of at most %d", m.name, try+1, bootTries)
			continue
		}
		return fmt.Errorf("%s: the kernel did not hand over to /init: %w", m.name, err)
	}
}

// concatenate gives one file with all archives, which is how the kernel takes several.
func (m *VM) concatenate() (string, error) {
	switch len(m.spec.initramfs) {
	case 0:
		return "", nil
	case 1:
		return m.spec.initramfs[0], nil
	}
	out, err := os.CreateTemp(m.t.TempDir(), "initrd-*.cpio")
	if err != nil {
		return "", err
	}
	for _, path := range m.spec.initramfs {
		if err := appendFile(out, path); err != nil {
			return "", errors.Join(err, out.Close())
		}
	}
	return out.Name(), out.Close()
}

var (
	initLine   = regexp.MustCompile(`Run \S+ as init process`)
	kernelLine = regexp.MustCompile(`^(\[ *[0-9]+\.[0-9]+\]|$)`)
	coreLine   = regexp.MustCompile(`RIP: 0010:\w+\+0x[0-9a-f]+/0x[0-9a-f]+\s*$`) // a module's name would follow
	panicLine  = regexp.MustCompile(`Kernel panic - not syncing.*`)
)

// diedOfEmulation recognises exactly one bug: under emulation about one boot in 90 dies, before /init, where the kernel patches a
// jump while another processor runs there: of the breakpoint that it had put in and out again (seen in sched_clock_cpu,
// hrtimer_start_range_ns and __kmalloc_noprof), or, once in some hundreds, of the double fault that follows torn instructions (in
// kmem_cache_alloc_noprof, at its patched no-op). Before /init nothing of the guest's own has run, and no module is loaded.
// The breakpoint was seen once more where the first control groups have the kernel patch kmem_cache_free, a moment after init began: nothing
// of ours puts breakpoints into the kernel's core. And once, later still, where the first connection has it patch
// secure_ipv4_port_ephemeral: a test that fails of that says so, and run.sh runs it again.
func diedOfEmulation(console []string) bool {
	oops, core, begun := false, false, false
	for _, line := range console {
		begun = begun || initLine.MatchString(line)
		oops = oops || strings.Contains(line, "Oops: int3") || !begun && strings.Contains(line, "Oops: double fault")
		core = core || oops && coreLine.MatchString(line)
	}
	return oops && core
}

// reachInit waits until the kernel says that it starts init. A quiet kernel does not: then the first event, or the first
// console line that is not the kernel's, says it.
func (r *run) reachInit() error {
	ctx, cancel := context.WithTimeout(context.Background(), bootGuard)
	defer cancel()
	quiet := slices.Contains(r.m.spec.append, "quiet")
	seen := make(chan error, 2)
	go func() {
		seen <- r.console.each(ctx, func(line string) bool {
			return initLine.MatchString(line) || quiet && !kernelLine.MatchString(line)
		})
	}()
	go func() {
		_, _, err := r.events.wait(ctx, 0, func(Event) bool { return true })
		seen <- err
	}()
	err := <-seen
	if err != nil {
		err = <-seen
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nothing of it within %v", bootGuard)
	}
	if err == nil {
		err = r.firstWord()
	}
	return err
}

// firstWordTime is for how long a machine may say nothing before it counts as started all the same.
const firstWordTime = 5 * time.Second

// firstWord waits until the guest says something, or dies of what diedOfEmulation knows.
func (r *run) firstWord() error {
	ctx, cancel := context.WithTimeout(context.Background(), firstWordTime)
	defer cancel()
	over := make(chan struct{}, 2)
	go func() {
		_, _, _ = r.events.wait(ctx, 0, func(Event) bool { return true })
		over <- struct{}{}
	}()
	go func() {
		_ = r.console.each(ctx, panicLine.MatchString)
		over <- struct{}{}
	}()
	<-over
	if diedOfEmulation(r.console.Lines()) {
		return errors.New("it died at once")
	}
	return nil
}

// running gives the boot that was started.
func (m *VM) running() *run {
	m.t.Helper()
	if m.run == nil {
		m.t.Fatalf("%s: it was not started", m.name)
	}
	return m.run
}

// Console of this boot.
func (m *VM) Console() *Console {
	m.t.Helper()
	return m.running().console
}

// Type writes to the console's input, as a person at a terminal would; "\n" is the enter key.
func (m *VM) Type(text string) {
	m.t.Helper()
	if _, err := m.running().consolePort.Write([]byte(text)); err != nil {
		m.t.Fatalf("%s: type %q: %v", m.name, text, err)
	}
}

// whyNot says why a wait got nothing.
func (m *VM) whyNot(err error, guard time.Duration) string {
	switch {
	case errors.Is(err, errEnded):
		return "the machine ended before: " + m.run.exitNow().String()
	case errors.Is(err, context.DeadlineExceeded):
		if line := m.run.console.find(panicLine); line != "" {
			return fmt.Sprintf("nothing within %v, and the kernel panicked: %s", guard, line)
		}
		return fmt.Sprintf("nothing within %v", guard)
	}
	return err.Error()
}
