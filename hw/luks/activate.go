package luks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anatol/devmapper.go"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
)

// Activation is one mapping to be made.
type Activation struct {
	Name     string // /dev/mapper/NAME
	Device   dm.Dev // with the data
	Params   Params
	ReadOnly bool
	Discards bool // let discards through to the device, as the flag in the header would
}

// Activate makes the mapping: the crypt table names the logon key, which the session keyring of the calling thread must
// hold (runtime.LockOSThread), and which is forgotten in any case. Of what fails nothing stays behind. A mapping of
// this volume that was begun and left without a table is completed; one that is live is success. It can sleep in the
// kernel on the device.
func Activate(ctx context.Context, a Activation) error {
	return activateFrom(ctx, unix.KEY_SPEC_SESSION_KEYRING, a)
}

// activateFrom is Activate with the key in another keyring that the calling thread possesses.
func activateFrom(ctx context.Context, ring int, a Activation) error {
	key, err := findKey(ring, a.Params.KeyDescription)
	if err != nil {
		return err
	}
	return errors.Join(a.activate(ctx), forget(ring, key))
}

func (a Activation) activate(ctx context.Context) error {
	p := a.Params
	uuid := dmUUID(fmt.Sprintf("LUKS%d", p.Version), p.UUID, a.Name)
	if p.Version == 0 {
		uuid = dmUUID("PLAIN", "", a.Name)
	}
	switch err := dm.Create(a.Name, uuid); {
	case errors.Is(err, dm.ErrExists):
		found, err := check(a.Name, func(other string) bool { return other == uuid })
		if err != nil {
			return err
		}
		switch found.Answer {
		case Same:
			return nil
		case Partial:
		default:
			return fmt.Errorf("%s: %s", dm.Node(a.Name), found.Reason)
		}
	case err != nil:
		return err
	}
	flags := slices.Clone(p.Flags)
	if a.Discards && !slices.Contains(flags, devmapper.CryptFlagAllowDiscards) {
		flags = append(flags, devmapper.CryptFlagAllowDiscards)
	}
	table := devmapper.CryptTable{
		Length:        p.Length * SectorSize,
		BackendDevice: a.Device.String(),
		BackendOffset: p.Offset * SectorSize,
		Encryption:    p.Cipher,
		KeyID:         fmt.Sprintf(":%d:logon:%s", p.KeySize, p.KeyDescription),
		IVTweak:       p.IVOffset,
		Flags:         flags,
		SectorSize:    p.SectorSize,
	}
	err := dm.Load(a.Name, a.ReadOnly, table)
	// crypt_ctr of drivers/md/dm-crypt.c: no such cipher, or not with a key of that size
	if errors.Is(err, dm.ErrNoDriver) || errors.Is(err, unix.EINVAL) {
		err = unsupported("the kernel refuses the cipher %s with a key of %d bits", p.Cipher, p.KeySize*8)
	} else if errors.Is(err, dm.ErrBusy) {
		err = &InUseError{}
	}
	if err == nil {
		err = alone(a.Device, a.Name)
	}
	if err == nil {
		err = dm.Resume(ctx, a.Name)
	}
	if err != nil {
		return errors.Join(err, dm.Remove(context.WithoutCancel(ctx), a.Name))
	}
	return nil
}

// dmUUID is how cryptsetup marks its mappings (dm_prepare_uuid, lib/libdevmapper.c), so that it, lsblk and udev's rules
// know ours.
func dmUUID(kind, uuid, name string) string {
	if uuid == "" {
		return fmt.Sprintf("CRYPT-%s-%s", kind, name)
	}
	return fmt.Sprintf("CRYPT-%s-%s-%s", kind, strings.ReplaceAll(uuid, "-", ""), name)
}

// Answer is what Check finds.
type Answer string

const (
	Absent    Answer = "absent"
	Same      Answer = "same"      // the mapping is there, live, and of this volume
	Partial   Answer = "partial"   // it is of this volume and was not completed: Activate does
	Different Answer = "different" // the name is taken by something else, or the mapping is not usable
)

// Checked is an answer and, unless it is Absent or Same, its reason.
type Checked struct {
	Answer Answer
	Reason string
}

// Check tells whether /dev/mapper/NAME exists and is the volume with this UUID. For an empty uuid every LUKS volume
// answers, and the plain mapping of an ephemeral key. A mapping that is the Same gets its node if that is missing: an
// Activate that was killed right after the kernel had let the mapping go live could not make it.
func Check(name, uuid string) (Checked, error) {
	return check(name, func(other string) bool {
		if uuid == "" {
			return strings.HasPrefix(other, "CRYPT-LUKS") || other == dmUUID("PLAIN", "", name)
		}
		return other == dmUUID("LUKS1", uuid, name) || other == dmUUID("LUKS2", uuid, name)
	})
}

func check(name string, ours func(uuid string) bool) (Checked, error) {
	info, err := dm.Stat(name)
	if errors.Is(err, dm.ErrNotFound) || errors.Is(err, dm.ErrNoDriver) {
		return Checked{Answer: Absent}, nil
	}
	if err != nil {
		return Checked{}, err
	}
	table, err := dm.Table(name)
	if err != nil {
		return Checked{}, err
	}
	c := compare(info, table, ours)
	if c.Answer == Same {
		return c, dm.MakeNode(info)
	}
	return c, nil
}

func compare(info dm.Info, table []dm.Target, ours func(uuid string) bool) Checked {
	different := func(format string, args ...any) Checked {
		return Checked{Different, fmt.Sprintf(format, args...)}
	}
	switch {
	case !ours(info.UUID) && strings.HasPrefix(info.UUID, "CRYPT-"):
		return different("the name is taken by another volume (UUID %s)", info.UUID)
	case !ours(info.UUID):
		return different("the name is taken by a device that is not encrypted (UUID %q)", info.UUID)
	case !info.Active:
		return Checked{Partial, "it has no table yet"}
	case len(table) != 1 || table[0].Type != "crypt":
		return different("its table is not one crypt target (it was wiped, or is being replaced)")
	case info.Suspended:
		return different("it is suspended; `dmsetup resume %s` or `cryptsetup luksResume %s` lets it go on", info.Name, info.Name)
	}
	return Checked{Answer: Same}
}

// Close takes a mapping down. dm.ErrBusy while it is in use; dm.ErrNotFound if there is none.
func Close(ctx context.Context, name string) error { return dm.Remove(ctx, name) }
