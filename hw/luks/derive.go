package luks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"initd/hw/secret"
)

// MaxKey bounds a key (passphrase, key file, key from a server), in bytes.
const MaxKey = 512 << 10

// DeriveParams is what derive is told: data without secrets that marshals. Numbers called Header and Keys are positions
// in the files that go with it.
type DeriveParams struct {
	Volumes   []DeriveVolume `json:"volumes"`
	MemoryKiB uint64         `json:"memoryKiB"` // what argon2 may take, all volumes together
}

// DeriveVolume is one volume of a batch.
type DeriveVolume struct {
	Name     string `json:"name"` // for messages
	Header   int    `json:"header"`
	Detached bool   `json:"detached,omitempty"` // the header is not on the device with the data
	DataSize uint64 `json:"dataSize"`           // of the device with the data, in bytes
	Keys     []int  `json:"keys"`               // sealed memfds, newest first
	UUID     string `json:"uuid,omitempty"`     // if set, another one is refused
}

// Result is what derive says about one volume: Params or Failure.
type Result struct {
	Params  *Params  `json:"params,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Params is what a dm-crypt table needs: the key's name, never the key.
type Params struct {
	UUID      string `json:"uuid"`
	Version   int    `json:"version"`
	Secondary bool   `json:"secondary,omitempty"` // the second copy of the header was used: repair the first
	Slot      int    `json:"slot"`
	Key       int    `json:"key"` // which of the keys fitted, from 0

	Cipher         string   `json:"cipher"`
	KeyDescription string   `json:"keyDescription"` // of the logon key in the session keyring
	KeySize        int      `json:"keySize"`        // bytes
	IVOffset       uint64   `json:"ivOffset"`       // sectors of 512 bytes, as are the next two
	Offset         uint64   `json:"offset"`
	Length         uint64   `json:"length"`
	SectorSize     uint64   `json:"sectorSize"` // bytes
	Flags          []string `json:"flags,omitempty"`
}

// Keyring takes volume keys. SessionKeyring is the real one.
type Keyring interface {
	// Add stores payload, which stays the caller's, under a description that no other key has.
	Add(description string, payload []byte) error
}

// DeriveOptions are what a process that runs Derive decides for itself.
type DeriveOptions struct {
	Keyring Keyring
	// Foreign names what is at the start of a device: a file system, a partition table, a volume manager; "" for
	// nothing known. It must read no further than it has to and survive every content. The reader is an
	// *io.SectionReader, which knows its size, and hides second copies of LUKS headers. Without Foreign the second copy
	// of a header is used only where the first left a trace.
	Foreign func(io.ReaderAt) (string, error)
}

// Derive opens each volume's header and puts its volume key into the keyring. Results are in the order of the volumes,
// one for each. It runs as many at once as there are processors and as MemoryKiB admits; it cannot be interrupted
// within a slot, so that a deadline ends the process. Call Confine before.
func Derive(ctx context.Context, p DeriveParams, files []*os.File, o DeriveOptions) []Result {
	results := make([]Result, len(p.Volumes))
	admit := newMemory(p.MemoryKiB)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(len(p.Volumes), runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := range next {
				params, err := deriveOne(ctx, p.Volumes[i], files, o, admit)
				if err != nil {
					results[i].Failure = failureOf(err)
				} else {
					results[i].Params = &params
				}
			}
		})
	}
	for i := range p.Volumes {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

func deriveOne(ctx context.Context, v DeriveVolume, files []*os.File, o DeriveOptions, admit *memory) (Params, error) {
	for _, n := range append([]int{v.Header}, v.Keys...) {
		if n < 0 || n >= len(files) {
			return Params{}, fmt.Errorf("file %d is not among the %d that were passed", n, len(files))
		}
	}
	source := headerSource{at: files[v.Header], detached: v.Detached, dataSize: v.DataSize, foreign: o.Foreign}
	h, err := readHeader(source)
	if err != nil {
		return Params{}, err
	}
	if v.UUID != "" && h.UUID != v.UUID {
		return Params{}, &NotLUKSError{fmt.Sprintf("it is the volume %s, wanted is %s", h.UUID, v.UUID)}
	}
	keys := make([]*secret.Buffer, 0, len(v.Keys))
	defer func() {
		for _, key := range keys {
			key.Destroy()
		}
	}()
	for _, n := range v.Keys {
		key, err := secret.Open(files[n], MaxKey)
		if err != nil {
			return Params{}, err
		}
		keys = append(keys, key)
	}
	found, err := h.unlock(ctx, source.at, keys, admit)
	if err != nil {
		return Params{}, err
	}
	defer found.volumeKey.Destroy()
	params := h.params(found)
	params.KeyDescription = describe(h.UUID)
	if err := o.Keyring.Add(params.KeyDescription, found.volumeKey.Bytes()); err != nil {
		return Params{}, fmt.Errorf("hand the volume key to the kernel: %w", err)
	}
	return params, nil
}

func (h *Header) params(found opened) Params {
	return Params{
		UUID: h.UUID, Version: h.Version, Secondary: h.Secondary, Slot: found.slot, Key: found.key,
		Cipher: h.Cipher, KeySize: found.volumeKey.Len(), IVOffset: h.IVOffset, Offset: h.Offset, Length: h.Length,
		SectorSize: h.SectorSize, Flags: slices.Clone(h.Flags),
	}
}

// describe names a key as no other is named: of two with the same description in one keyring the second replaces the
// first. Up to the first colon it is the prefix that the logon type demands (Documentation/security/keys/core.rst).
func describe(uuid string) string {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return fmt.Sprintf("initd:%s-%s", uuid, hex.EncodeToString(nonce[:]))
}

// Failure is an error on its way from one process to another.
type Failure struct {
	Kind    string        `json:"kind"` // the Code of the error; "" for one that has no type
	Text    string        `json:"text"`
	NeedKiB uint64        `json:"needKiB,omitempty"`
	HaveKiB uint64        `json:"haveKiB,omitempty"`
	Keys    int           `json:"keys,omitempty"`
	Slots   []SlotFailure `json:"slots,omitempty"`
}

// SlotFailure is a SlotError on its way.
type SlotFailure struct {
	Slot    int     `json:"slot"`
	Key     int     `json:"key"`
	Failure Failure `json:"failure"`
}

const wrongKey = "wrong-key"

func failureOf(err error) *Failure {
	f := &Failure{Text: err.Error()}
	if e, ok := errors.AsType[*NoMatchingKeyError](err); ok { // first: it holds others
		f.Kind, f.Keys = e.Code(), e.Keys
		for _, slot := range e.Slots {
			f.Slots = append(f.Slots, SlotFailure{slot.Slot, slot.Key, *failureOf(slot.Err)})
		}
	} else if e, ok := errors.AsType[*NotLUKSError](err); ok {
		f.Kind, f.Text = e.Code(), e.Found
	} else if e, ok := errors.AsType[*DamagedError](err); ok {
		f.Kind, f.Text = e.Code(), e.How
	} else if e, ok := errors.AsType[*UnsupportedError](err); ok {
		f.Kind, f.Text = e.Code(), e.What
	} else if e, ok := errors.AsType[*TooCostlyError](err); ok {
		f.Kind, f.NeedKiB, f.HaveKiB = e.Code(), e.NeedKiB, e.HaveKiB
	} else if errors.Is(err, ErrWrongKey) {
		f.Kind = wrongKey
	}
	return f
}

// Err is the error again, with its type.
func (f *Failure) Err() error {
	switch f.Kind {
	case (*NoMatchingKeyError)(nil).Code():
		e := &NoMatchingKeyError{Keys: f.Keys}
		for _, slot := range f.Slots {
			e.Slots = append(e.Slots, &SlotError{slot.Slot, slot.Key, slot.Failure.Err()})
		}
		return e
	case (*NotLUKSError)(nil).Code():
		return &NotLUKSError{f.Text}
	case (*DamagedError)(nil).Code():
		return &DamagedError{f.Text}
	case (*UnsupportedError)(nil).Code():
		return &UnsupportedError{f.Text}
	case (*TooCostlyError)(nil).Code():
		return &TooCostlyError{f.NeedKiB, f.HaveKiB}
	case wrongKey:
		return ErrWrongKey
	}
	return errors.New(f.Text)
}
