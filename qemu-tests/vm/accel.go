package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Accelerator is what runs the guests' code.
type Accelerator string

const (
	// KVM is used only after a real boot has proved it.
	KVM Accelerator = "kvm"
	// TCG emulates every instruction, on any machine.
	TCG Accelerator = "tcg"
)

func (a Accelerator) args() []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// probeGuard is the longest that a boot under a working KVM takes on a noisy machine, user space and power-off included.
const probeGuard = 20 * time.Second

// ProbeAccelerator tells whether KVM works here. A /dev/kvm that exists proves nothing: in nested clouds its guests may
// hang, or QEMU aborts on it. So a guest is booted, says so, and powers off; the answer is kept below out/cache until
// this machine boots again.
func ProbeAccelerator(t testing.TB) Accelerator {
	t.Helper()
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(Root(t), "out", "cache", "accelerator-"+strings.TrimSpace(string(bootID)))
	if known, err := os.ReadFile(cache); err == nil {
		return Accelerator(strings.TrimSpace(string(known)))
	}
	unlock := lockFile(t, cache+".lock")
	defer unlock()
	if known, err := os.ReadFile(cache); err == nil {
		return Accelerator(strings.TrimSpace(string(known)))
	}
	found, why := probe(t)
	t.Logf("accelerator: %s (%s)", found, why)
	if err := os.WriteFile(cache, []byte(string(found)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return found
}

func probe(t testing.TB) (Accelerator, string) {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, err.Error()
	}
	f.Close()
	m := New(t, Name("kvm-probe")).Initramfs(NewImage(t).GoProgram("/init", "./qemu-tests/guest").Write("kvm-probe"))
	m.spec.expectPanic = true // a broken KVM may do anything to its guest
	if m.initrd, err = m.concatenate(); err != nil {
		t.Fatal(err)
	}
	r, err := m.launch(KVM, m.initrd)
	if err != nil {
		return TCG, fmt.Sprintf("QEMU does not start with KVM: %v", err)
	}
	m.run = r
	defer r.kill()
	select {
	case <-r.done:
	case <-time.After(probeGuard):
		return TCG, fmt.Sprintf("a guest under KVM did not finish within %v", probeGuard)
	}
	if exit := r.exitNow(); exit.Reason != "guest-shutdown" || len(r.events.all()) == 0 {
		return TCG, "a guest under KVM ended with: " + exit.String()
	}
	return KVM, "a guest booted and powered off"
}

// lockFile waits for an exclusive lock, among goroutines and processes.
func lockFile(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		t.Fatalf("lock %s: %v", path, err)
	}
	return func() { f.Close() }
}
