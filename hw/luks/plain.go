package luks

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"initd/hw/secret"
)

// The mapping of an ephemeral key: what cryptsetup makes by default for swap with a random key, but with large sectors
// where the device is aligned to them.
const (
	plainCipher  = "aes-xts-plain64"
	plainKeySize = 64
)

// Plain is a device to be encrypted with a random key that nobody keeps: what is on it is lost with the mapping.
type Plain struct {
	Name     string
	Data     *os.File // the block device, open for reading
	Discards bool
}

// SignatureError says that a device holds something, so that it is not overwritten.
type SignatureError struct{ Found string }

func (e *SignatureError) Error() string {
	return fmt.Sprintf("it holds %s, which an ephemeral key would destroy", e.Found)
}
func (*SignatureError) Code() string    { return "LUKS-SIGNATURE" }
func (*SignatureError) Retryable() bool { return false }
func (*SignatureError) Hint() string {
	return "check that this is the right device; `wipefs -a DEVICE` empties it for good; what that leaves, `dd if=/dev/zero of=DEVICE bs=1M count=5` does"
}

// OpenPlain maps a device with a random key. It refuses, with *SignatureError, one on which signature finds anything: a
// LUKS header, a file system, a partition table. It is privileged and may block on the device, like OpenBatch.
func OpenPlain(ctx context.Context, v Plain, signature func(io.ReaderAt) (string, error)) error {
	if err := openPlain(ctx, v, signature); err != nil {
		return &OpenError{v.Name, v.Data.Name(), err}
	}
	return nil
}

func openPlain(ctx context.Context, v Plain, signature func(io.ReaderAt) (string, error)) error {
	if signature == nil {
		return errors.New("nothing was given to look for signatures with")
	}
	found, err := signature(v.Data)
	if err != nil {
		return fmt.Errorf("look for signatures: %w", err)
	}
	if found == "" {
		if found, err = anyHeader(v.Data); err != nil {
			return fmt.Errorf("look for a LUKS header: %w", err)
		}
	}
	if found != "" {
		return &SignatureError{found}
	}
	device, err := blockDevice(v.Data)
	if err != nil {
		return err
	}
	size, err := sizeOf(v.Data)
	if err != nil {
		return err
	}
	p := Params{Cipher: plainCipher, KeySize: plainKeySize, Length: size / SectorSize, SectorSize: SectorSize}
	if size%4096 == 0 {
		p.SectorSize = 4096
	}
	p.KeyDescription = describe("plain-" + v.Name)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, as in OpenBatch
		done <- activatePlain(ctx, Activation{Name: v.Name, Device: device, Params: p, Discards: v.Discards})
	}()
	return <-done
}

// anyHeader looks for the magic of either copy of a header, damaged ones included, and parses nothing.
func anyHeader(device io.ReaderAt) (string, error) {
	start := make([]byte, len(magicFirst))
	for _, at := range append([]uint64{0}, headerSizes()...) {
		err := readFull(device, start, at)
		if errors.Is(err, errCutOff) {
			break
		}
		if err != nil {
			return "", err
		}
		if bytes.Equal(start, magicFirst) || at == 0 && bytes.Equal(start, magicReencrypted) || at > 0 && bytes.Equal(start, magicSecond) {
			return fmt.Sprintf("a LUKS header at byte %d", at), nil
		}
	}
	return "", nil
}

func activatePlain(ctx context.Context, a Activation) error {
	if _, err := joinSession(); err != nil {
		return err
	}
	key, err := secret.New(a.Params.KeySize)
	if err != nil {
		return err
	}
	_, _ = rand.Read(key.Bytes()) // never fails
	err = SessionKeyring{}.Add(a.Params.KeyDescription, key.Bytes())
	key.Destroy()
	if err == nil {
		err = Activate(ctx, a)
	}
	return errors.Join(err, leaveSession())
}
