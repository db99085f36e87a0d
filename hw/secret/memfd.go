package secret

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals are those that Open insists on: after them neither content, size nor seals can change (memfd_create(2)).
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// ErrNotSealed says that a descriptor is not a memfd sealed against every change, so its sender could still alter it.
var ErrNotSealed = errors.New("not a sealed memfd")

// Seal copies secret into a new memfd and seals it. name shows up in /proc/PID/fd, so it tells what the secret is for
// and never what it is. The caller closes the file and keeps or wipes secret.
func Seal(name string, secret []byte) (*os.File, error) {
	if len(secret) == 0 || len(secret) > MaxSize {
		return nil, fmt.Errorf("seal %s: size %d is not within 1 to %d", name, len(secret), MaxSize)
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("seal %s: memfd_create: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.WriteAt(secret, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("seal %s: %w", name, err), file.Close())
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(fmt.Errorf("seal %s: F_ADD_SEALS: %w", name, err), file.Close())
	}
	return file, nil
}

// Open reads the secret of at most limit bytes in a sealed memfd, from its start, without moving its offset. The caller
// destroys the buffer and closes the file. ErrNotSealed if file is anything else than Seal makes.
func Open(file *os.File, limit int) (*Buffer, error) {
	fd := file.Fd()
	got, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals { // EINVAL: not a memfd
		return nil, fmt.Errorf("open %s: %w", file.Name(), ErrNotSealed)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(fd), &stat); err != nil {
		return nil, fmt.Errorf("open %s: fstat: %w", file.Name(), err)
	}
	if stat.Size < 1 || stat.Size > int64(min(limit, MaxSize)) {
		return nil, fmt.Errorf("open %s: size %d is not within 1 to %d", file.Name(), stat.Size, min(limit, MaxSize))
	}
	b, err := New(int(stat.Size))
	if err != nil {
		return nil, err
	}
	if _, err := file.ReadAt(b.Bytes(), 0); err != nil {
		b.Destroy()
		return nil, fmt.Errorf("open %s: %w", file.Name(), err)
	}
	return b, nil
}
