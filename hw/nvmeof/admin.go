package nvmeof

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// adminCommand is struct nvme_passthru_cmd (include/uapi/linux/nvme_ioctl.h).
type adminCommand struct {
	opcode, flags              uint8
	_                          uint16
	nsid, cdw2, cdw3           uint32
	metadata, addr             uint64
	metadataLength, dataLength uint32
	cdw10, cdw11, cdw12, cdw13 uint32
	cdw14, cdw15               uint32
	timeout                    uint32 // ms
	result                     uint32
}

// ioctlAdmin is NVME_IOCTL_ADMIN_CMD, _IOWR('N', 0x41, struct nvme_admin_cmd).
const ioctlAdmin = 0xc0484e41

// logTimeout bounds one command, in milliseconds.
const logTimeout = 10_000

// DiscoveryLog reads the log of a discovery controller ("nvme3"), and arms the event that tells of its next change.
func DiscoveryLog(controller string) (Log, error) {
	if !isController(controller) {
		return Log{}, fmt.Errorf("%q is no NVMe controller", controller)
	}
	f, err := os.OpenFile("/dev/"+controller, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Log{}, fmt.Errorf("read the discovery log: %w", err)
	}
	defer f.Close()
	l, err := ReadLog(func(offset uint64, p []byte) error { return getLogPage(f, offset, p) })
	if err != nil {
		return Log{}, fmt.Errorf("%s: %w", controller, err)
	}
	return l, nil
}

// getLogPage reads a part of the discovery log (NVMe Base 2.0, section 5.16).
func getLogPage(f *os.File, offset uint64, p []byte) error {
	if len(p) == 0 || len(p)%4 != 0 || offset%4 != 0 {
		return fmt.Errorf("get log page: %d bytes from %d: both have to be multiples of four", len(p), offset)
	}
	dwords := uint32(len(p)/4 - 1)
	c := adminCommand{
		opcode: opGetLogPage, addr: uint64(uintptr(unsafe.Pointer(&p[0]))), dataLength: uint32(len(p)),
		cdw10: logDiscovery | dwords<<16, cdw11: dwords >> 16, cdw12: uint32(offset), cdw13: uint32(offset >> 32),
		timeout: logTimeout,
	}
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlAdmin, uintptr(unsafe.Pointer(&c)))
	runtime.KeepAlive(p)
	switch {
	case errno != 0:
		return fmt.Errorf("get log page: %w", errno)
	case status != 0:
		return &StatusError{Op: "get log page", Status: int(status)}
	}
	return nil
}

// sizeOfAdminCommand is checked against the kernel's by a test.
const sizeOfAdminCommand = unsafe.Sizeof(adminCommand{})
