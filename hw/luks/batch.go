package luks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"initd/hw/dm"
	"initd/hw/sysfs"
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

// Outcome is what became of one volume.
type Outcome struct {
	Params Params // valid if Err is nil
	Err    error  // *OpenError
}

// OpenError is a volume that was not opened. The reason below it is one of this package's types, or from dm.
type OpenError struct {
	Name, Device string
	Err          error
}

func (e *OpenError) Error() string  { return fmt.Sprintf("unlock %s (%s): %v", e.Name, e.Device, e.Err) }
func (e *OpenError) Unwrap() error  { return e.Err }
func (e *OpenError) Object() string { return e.Device }

// Deriver runs Derive in a process of its own, with these files and no others but its standard streams, and returns
// what it returned. The process must be forked from the calling thread (os/exec does), which has the session keyring.
// An error means that there is no result: the process crashed, was killed, or could not be started.
type Deriver func(ctx context.Context, files []*os.File, p DeriveParams) ([]Result, error)

// OpenBatch opens volumes and returns one outcome for each, in order. memoryKiB is what argon2 may take; 0 means
// AvailableMemory. It holds no key at any time. It needs CAP_SYS_ADMIN and blocks as long as derive and the devices do:
// run it in a process that may be abandoned.
func OpenBatch(ctx context.Context, volumes []Volume, memoryKiB uint64, derive Deriver) ([]Outcome, error) {
	if memoryKiB == 0 {
		root, err := sysfs.Open("/")
		if err != nil {
			return nil, err
		}
		defer root.Close()
		if memoryKiB, err = AvailableMemory(root); err != nil {
			return nil, err
		}
	}
	b := batch{volumes: volumes, outcomes: make([]Outcome, len(volumes)), memoryKiB: memoryKiB, derive: derive}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and with it its session keyring.
		runtime.LockOSThread()
		if err := joinSession(); err != nil {
			done <- err
			return
		}
		all := make([]int, len(volumes))
		for i := range all {
			all[i] = i
		}
		b.run(ctx, all)
		done <- leaveSession()
	}()
	return b.outcomes, <-done
}

type batch struct {
	volumes   []Volume
	outcomes  []Outcome
	memoryKiB uint64
	derive    Deriver
}

// run derives and activates the volumes at these positions. If derive fails as a whole, one of them is to blame: each
// gets a derive of its own then.
func (b *batch) run(ctx context.Context, which []int) {
	var files []*os.File
	p := DeriveParams{MemoryKiB: b.memoryKiB}
	var asked []int
	for _, i := range which {
		v, err := describeVolume(b.volumes[i], &files)
		if err != nil {
			b.fail(i, err)
			continue
		}
		p.Volumes = append(p.Volumes, v)
		asked = append(asked, i)
	}
	if len(asked) == 0 {
		return
	}
	results, err := b.derive(ctx, files, p)
	if err == nil && len(results) != len(asked) {
		err = fmt.Errorf("%d results for %s", len(results), count(len(asked), "volume"))
	}
	switch {
	case err != nil && len(asked) > 1 && ctx.Err() == nil:
		for _, i := range asked {
			b.run(ctx, []int{i})
		}
		return
	case err != nil:
		for _, i := range asked {
			b.fail(i, &CrashedError{err})
		}
		return
	}
	for n, result := range results {
		switch i := asked[n]; {
		case result.Params != nil:
			b.activate(ctx, i, *result.Params)
		case result.Failure != nil:
			b.fail(i, result.Failure.Err())
		default:
			b.fail(i, &CrashedError{errors.New("it gave neither a result nor an error")})
		}
	}
}

func (b *batch) activate(ctx context.Context, i int, p Params) {
	v := b.volumes[i]
	device, err := blockDevice(v.Data)
	if err == nil {
		err = p.check()
	}
	if err == nil {
		err = Activate(ctx, Activation{Name: v.Name, Device: device, Params: p, ReadOnly: v.ReadOnly, Discards: v.Discards})
	}
	if err != nil {
		b.fail(i, err)
		return
	}
	b.outcomes[i].Params = p
}

func (b *batch) fail(i int, err error) {
	v := b.volumes[i]
	b.outcomes[i].Err = &OpenError{v.Name, v.Data.Name(), err}
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
