package media

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ProbeDevice opens a block device, or a file that holds an image, and probes it. It blocks as long as the medium does, for ever on
// one that is suspended: call it in a child process.
func ProbeDevice(path string) (Content, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", path, withoutPath(err))
	}
	defer file.Close()
	medium, err := measure(file)
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", path, err)
	}
	content, err := Probe(medium)
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", path, withoutPath(err))
	}
	return content, nil
}

func measure(file *os.File) (Medium, error) {
	info, err := file.Stat()
	if err != nil {
		return Medium{}, withoutPath(err)
	}
	if info.Mode().IsRegular() {
		return Medium{ReaderAt: file, Size: info.Size(), SectorSize: 512}, nil
	}
	if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return Medium{}, fmt.Errorf("neither a block device nor a file")
	}
	var size uint64
	if err := ioctl(file, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return Medium{}, fmt.Errorf("ask for its size: %w", err)
	}
	var sector int32
	if err := ioctl(file, unix.BLKSSZGET, unsafe.Pointer(&sector)); err != nil {
		return Medium{}, fmt.Errorf("ask for its sector size: %w", err)
	}
	return Medium{ReaderAt: file, Size: int64(size), SectorSize: int(sector)}, nil
}

func ioctl(file *os.File, request uint, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), uintptr(request), uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// withoutPath takes the path out of an error of package os: the caller's message has it.
func withoutPath(err error) error {
	if inner, ok := err.(*os.PathError); ok {
		return inner.Err
	}
	return err
}
