package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openDevice claims a block device: O_EXCL fails while it or one of its partitions is mounted, is part of another device, or swaps.
func (t *Target) openDevice() error {
	f, err := os.OpenFile(t.path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: the device is in use: %s; release it first", t.said, Users(t.path))
	}
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		var ro int
		if ro, err = unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err == nil && ro != 0 {
			err = errors.New("the device is read-only")
		}
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", t.said, err)
	}
	t.main = &handle{f: f, name: t.said, block: true, size: size}
	return nil
}

// Users says in words who uses a block device or one of its partitions: mounts, holders (device mapper, md), swap. It is for
// messages; the kernel's claim decides.
func Users(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "by whom cannot be told"
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	devs := map[string]string{fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)): path}
	dirs := []string{dir}
	parts, _ := filepath.Glob(dir + "/*/partition")
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
		if dev, err := os.ReadFile(filepath.Join(filepath.Dir(p), "dev")); err == nil {
			devs[strings.TrimSpace(string(dev))] = "/dev/" + filepath.Base(filepath.Dir(p))
		}
	}
	var users []string
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		s := bufio.NewScanner(bytes.NewReader(mounts))
		for s.Scan() {
			f := strings.Fields(s.Text())
			if len(f) > 4 && devs[f[2]] != "" {
				users = append(users, fmt.Sprintf("%s is mounted on %s", devs[f[2]], f[4]))
			}
		}
	}
	for _, d := range dirs {
		holders, _ := os.ReadDir(filepath.Join(d, "holders"))
		for _, h := range holders {
			name := h.Name()
			if dm, err := os.ReadFile(filepath.Join(d, "holders", name, "dm/name")); err == nil {
				name += " (" + strings.TrimSpace(string(dm)) + ")"
			}
			users = append(users, "it is part of "+name)
		}
	}
	if swaps, err := os.ReadFile("/proc/swaps"); err == nil {
		for _, dev := range devs {
			if bytes.Contains(swaps, []byte(dev+" ")) {
				users = append(users, dev+" is swap")
			}
		}
	}
	if users == nil {
		return "another process has it open for itself"
	}
	return strings.Join(users, ", ")
}
