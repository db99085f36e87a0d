package luks

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"initd/hw/secret"
)

// opened is a volume key, which whoever gets it destroys, and how it was found.
type opened struct {
	volumeKey *secret.Buffer
	slot, key int
}

// unlock tries keys in order, each on every slot, and says what it begins. Slots whose costs the machine cannot bear, or of a kind that is not
// known, are passed over and named in the error.
func (h *Header) unlock(ctx context.Context, at io.ReaderAt, keys []*secret.Buffer, admit *memory, doing func(string)) (opened, error) {
	var failures []*SlotError
	for k, key := range keys {
		for _, s := range h.slots {
			if ctx.Err() != nil {
				return opened{}, &UnfinishedError{Doing: fmt.Sprintf("slot %d: %v", s.number, s.kdf), Err: context.Cause(ctx)}
			}
			volumeKey, err := s.open(ctx, at, key.Bytes(), admit, doing)
			if err == nil {
				return opened{volumeKey, s.number, k}, nil
			}
			if _, over := errors.AsType[*UnfinishedError](err); over {
				return opened{}, err
			}
			failures = append(failures, &SlotError{Slot: s.number, Key: k, Err: err})
		}
	}
	if len(failures) > 0 && failures[0].passedOver() {
		first := failures[0].Err
		for _, f := range failures {
			if !f.passedOver() {
				first = nil
			}
		}
		if first != nil { // no key was tried at all
			return opened{}, first
		}
	}
	return opened{}, &NoMatchingKeyError{Keys: len(keys), Slots: failures}
}

// passedOver says that no key was tried on the slot.
func (e *SlotError) passedOver() bool {
	_, costly := errors.AsType[*TooCostlyError](e.Err)
	_, unknown := errors.AsType[*UnsupportedError](e.Err)
	return costly || unknown
}

// costlyDigest is far more than any tool asks for: cryptsetup takes an eighth of a second for a digest.
const costlyDigest = 10_000_000

// open tries one key on one slot; ErrWrongKey if it does not fit.
func (s slot) open(ctx context.Context, at io.ReaderAt, key []byte, admit *memory, doing func(string)) (*secret.Buffer, error) {
	if s.err != nil {
		return nil, s.err
	}
	for _, name := range []string{s.hash, s.digest.hash} { // before any work is done
		if _, err := hashByName(name); err != nil {
			return nil, err
		}
	}
	doing(fmt.Sprintf("slot %d: %v", s.number, s.kdf))
	release, err := admit.acquire(ctx, s.kdf.cost())
	if err != nil {
		return nil, err
	}
	admit.warm(s.kdf.cost())
	areaKey, err := s.kdf.derive(key, s.area.keySize)
	release()
	if err != nil {
		return nil, err
	}
	defer clear(areaKey)
	material, err := secret.New(int(s.area.size))
	if err != nil {
		return nil, err
	}
	defer material.Destroy()
	if err := readFull(at, material.Bytes(), s.area.offset); err != nil {
		if errors.Is(err, errCutOff) {
			err = damaged("the area of the slot: %v", err)
		}
		return nil, err
	}
	if err := decryptArea(s.area.cipher, areaKey, material.Bytes()); err != nil {
		return nil, err
	}
	newHash, err := hashByName(s.hash)
	if err != nil {
		return nil, err
	}
	volumeKey, err := secret.New(s.keySize)
	if err != nil {
		return nil, err
	}
	merge(volumeKey.Bytes(), material.Bytes(), newHash())
	if s.digest.iterations > costlyDigest {
		doing(fmt.Sprintf("slot %d: digest of %d iterations", s.number, s.digest.iterations))
	}
	if err := s.digest.check(volumeKey.Bytes()); err != nil {
		volumeKey.Destroy()
		return nil, err
	}
	return volumeKey, nil
}

func (d digest) check(volumeKey []byte) error {
	got, err := stretch(volumeKey, d.salt, d.hash, d.iterations, len(d.want))
	if err != nil {
		return err
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, d.want) != 1 {
		return ErrWrongKey
	}
	return nil
}

// merge undoes the anti-forensic splitting of LUKS1 On-Disk Format 1.2.3, section 2.4: key is every stripe but the last
// xored in and diffused in turn, then the last xored in. material holds len(key)*stripes bytes.
func merge(key, material []byte, h hash.Hash) {
	clear(key)
	for len(material) > len(key) {
		subtle.XORBytes(key, key, material[:len(key)])
		diffuse(key, h)
		material = material[len(key):]
	}
	subtle.XORBytes(key, key, material)
}

// diffuse replaces each piece of data of a hash's size by the hash of its number and itself, the last one cut short.
func diffuse(data []byte, h hash.Hash) {
	var number [4]byte
	sum := make([]byte, 0, h.Size())
	for i := uint32(0); len(data) > 0; i++ {
		n := min(h.Size(), len(data))
		binary.BigEndian.PutUint32(number[:], i)
		h.Reset()
		h.Write(number[:])
		h.Write(data[:n])
		copy(data[:n], h.Sum(sum))
		data = data[n:]
	}
	clear(sum[:cap(sum)])
}
