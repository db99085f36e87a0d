package luks

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"initd/hw/dm"
)

// Volume is one volume to be opened. Its files stay the caller's.
type Volume struct {
	Name   string     // /dev/mapper/NAME
	Data   *os.File   // the block device, open for reading
	Header *os.File   // a file or device with a detached header; nil if it is on Data
	Keys   []*os.File // sealed memfds (secret.Seal), newest first
	UUID   string     // if set, another one is refused

	ReadOnly bool
	Discards bool
}

// check trusts derive no more than a header: it may have been taken over by one. A word that is two would rewrite the
// table, an unknown flag could weaken it.
func (p Params) check() error {
	if err := checkCipher(p.Cipher); err != nil {
		return err
	}
	for _, flag := range p.Flags {
		if !knownFlag(flag) {
			return unsupported("the flag %.40q", flag)
		}
	}
	switch {
	case !validUUID(p.UUID) || p.Version != 1 && p.Version != 2,
		p.KeySize < 1 || p.KeySize > maxKeySize,
		len(p.KeyDescription) != len(describe(p.UUID)) || p.KeyDescription[:len("initd:")+36] != "initd:"+p.UUID,
		p.SectorSize != 512 && p.SectorSize != 1024 && p.SectorSize != 2048 && p.SectorSize != 4096:
		return &CrashedError{errors.New("its result makes no sense")}
	}
	return nil
}

// describeVolume puts what derive is to know into words and its files into files, each once.
func describeVolume(v Volume, files *[]*os.File) (DeriveVolume, error) {
	position := func(file *os.File) int {
		for i, other := range *files {
			if other == file {
				return i
			}
		}
		*files = append(*files, file)
		return len(*files) - 1
	}
	if err := dm.ValidName(v.Name); err != nil {
		return DeriveVolume{}, err
	}
	size, err := sizeOf(v.Data)
	if err != nil {
		return DeriveVolume{}, err
	}
	d := DeriveVolume{Name: v.Name, DataSize: size, UUID: v.UUID, Header: -1}
	if v.Header != nil {
		d.Detached, d.Header = true, position(v.Header)
	} else {
		d.Header = position(v.Data)
	}
	for _, key := range v.Keys {
		d.Keys = append(d.Keys, position(key))
	}
	return d, nil
}

func blockDevice(file *os.File) (dm.Dev, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("stat %s: %w", file.Name(), err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is no block device (attach a file with losetup)", file.Name())
	}
	return dm.Dev(stat.Rdev), nil
}
