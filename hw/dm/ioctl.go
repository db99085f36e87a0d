package dm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlPath is made by devtmpfs as soon as dm_mod is in the kernel, with or without udev.
const controlPath = "/dev/mapper/control"

// maxAnswer bounds what the kernel is given room for: a table of some ten thousand targets.
const maxAnswer = 8 << 20

// request is one ioctl. devmapper.go has no flags, no event number and no answer with data, so those that need them
// are made here.
type request struct {
	name  string
	flags uint32
	event uint32 // cookie and udev flags, see udev.go
	data  []byte // what is handed in; it may hold a key, and is wiped with the answer
	count int    // of the targets in data
	room  int    // bytes for the answer's data at first; more is given when the kernel asks for it
}

type answer struct {
	flags   uint32
	targets int
	data    []byte // may hold a key until wiped
}

func control(command uintptr, r request) (answer, error) {
	file, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if err != nil {
		return answer{}, err
	}
	defer file.Close()
	for room := max(r.room, len(r.data)); ; room = 8 * max(room, 512) {
		if room > maxAnswer {
			return answer{}, fmt.Errorf("the kernel's answer is longer than %d bytes", maxAnswer)
		}
		buffer := make([]byte, unix.SizeofDmIoctl+room)
		header := (*unix.DmIoctl)(unsafe.Pointer(unsafe.SliceData(buffer)))
		header.Version = [3]uint32{4, 0, 0} // the lowest that has all of this; the kernel takes any of its major version
		header.Data_size = uint32(len(buffer))
		header.Data_start = unix.SizeofDmIoctl
		header.Flags = r.flags
		header.Event_nr = r.event
		if len(r.name) >= len(header.Name) {
			return answer{}, errors.New("the name is too long")
		}
		copy(header.Name[:], r.name)
		copy(buffer[unix.SizeofDmIoctl:], r.data)
		header.Target_count = uint32(r.count)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), command, uintptr(unsafe.Pointer(header)))
		if errno != 0 {
			clear(buffer)
			return answer{}, errno
		}
		if header.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			clear(buffer)
			continue
		}
		from, to := int(header.Data_start), int(header.Data_size)
		if from < 0 || from > to || to > len(buffer) {
			from, to = 0, 0
		}
		return answer{header.Flags, int(header.Target_count), buffer[from:to]}, nil
	}
}

// parseDeps reads struct dm_target_deps: a count, padding, and as many device numbers.
func parseDeps(data []byte) ([]Dev, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("dm: list of dependencies: %d bytes are too few", len(data))
	}
	count := uint64(binary.NativeEndian.Uint32(data))
	if data = data[8:]; uint64(len(data)) < 8*count {
		return nil, fmt.Errorf("dm: list of dependencies: %d devices do not fit into %d bytes", count, len(data))
	}
	deps := make([]Dev, count)
	for i := range deps {
		deps[i] = Dev(binary.NativeEndian.Uint64(data[8*i:]))
	}
	return deps, nil
}
