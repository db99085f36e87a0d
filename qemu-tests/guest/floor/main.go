// Floor is the least that an initramfs can do for a benchmark's machine: it loads the modules of its image, runs cryptsetup
// for all volumes at once, mounts them and the root, and executes the root's init. What real programs do on top, they do
// for a reason; how much time it takes is measured against this.
//
// It owns nothing, checks nothing and reports nothing but its first error.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/guest/plan"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		_ = kernel.PowerOff()
	}
}

// volumes of the machine: /dev/vdb is d1 and so on, as the benchmark plugs them; each has its key in /keys.
func run() error {
	for _, m := range []struct{ kind, dir string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := kernel.LoadModules(plan.Modules); err != nil {
		return err
	}
	if err := os.MkdirAll("/sysroot", 0o755); err != nil {
		return err
	}
	rooted := make(chan error, 1)
	go func() { rooted <- unix.Mount("/dev/vda", "/sysroot", "ext4", unix.MS_RDONLY, "") }()
	keys, err := filepath.Glob("/keys/*")
	if err != nil {
		return err
	}
	errs := make([]error, len(keys))
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() { errs[i] = open(i, key) })
	}
	all.Wait()
	if err := errors.Join(append(errs, <-rooted)...); err != nil {
		return err
	}
	for _, key := range keys {
		name := filepath.Base(key)
		if err := unix.Mount("/dev/mapper/"+name, "/sysroot/srv/"+name, "ext4", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", name, err)
		}
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(dir, "/sysroot"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := unix.Chdir("/sysroot"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, os.Environ())
}

func open(i int, key string) error {
	name := filepath.Base(key)
	device := fmt.Sprintf("/dev/vd%c", 'b'+i)
	out, err := exec.Command("/usr/sbin/cryptsetup", "open", "--type", "luks2", "--key-file", key, device, name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cryptsetup %s: %w: %s", device, err, strings.TrimSpace(string(out)))
	}
	return nil
}
