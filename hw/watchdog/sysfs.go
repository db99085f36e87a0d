package watchdog

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// classDirectory is the device's directory (Documentation/ABI/testing/sysfs-class-watchdog), found by its number; "" if
// the kernel shows none.
func classDirectory(fd int, sys string) string {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	number := strconv.FormatUint(uint64(unix.Major(st.Rdev)), 10) + ":" + strconv.FormatUint(uint64(unix.Minor(st.Rdev)), 10)
	for _, dir := range []string{
		sys + "/dev/char/" + number,
		// /dev/watchdog, a misc device without attributes, is another name of the first one (watchdog_cdev_register in
		// drivers/watchdog/watchdog_dev.c).
		sys + "/class/watchdog/watchdog0",
	} {
		if read(dir+"/identity") != "" {
			return dir
		}
	}
	return ""
}

// attribute is the text of an attribute; "" where there is none.
func (d *Device) attribute(name string) string {
	if d.class == "" {
		return ""
	}
	return read(d.class + "/" + name)
}

// read reads a small file, or as much as an attribute can have.
func read(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b[:max(n, 0)]))
}
