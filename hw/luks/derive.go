package luks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

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
	Secondary bool   `json:"secondary,omitempty"` // the second copy of the header was used
	Damage    string `json:"damage,omitempty"`    // what is wrong with the other copy: repair it
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

// Told is one thing that derive says about the volume at a position in its parameters: what it begins, or, last, what
// became of it.
type Told struct {
	Volume int     `json:"volume"`
	Doing  string  `json:"doing,omitempty"` // "slot 0: argon2id of 64 MiB, 4 passes"
	Result *Result `json:"result,omitempty"`
}

const (
	// patience is how long others wait for a header to be read, and at least for a processor that one volume occupies;
	// longest is the most. A header may ask for work that never ends, and nothing can interrupt it.
	patience = time.Second
	longest  = 20 * time.Second
	// readers bounds the headers that are read at once: each takes a few times its size, which is 4 MiB at most.
	readers = 8
	// headroom is what derive takes beside the blocks of argon2, in bytes: the program, headers, key material.
	headroom = 64 << 20
)

// Derive opens each volume's header and puts its volume key into the keyring. tell hears of each volume as soon as it is
// through, from any goroutine, and in the order in which they end: those that ask for the least work first. It computes
// for as many at once as there are processors, and one more for each that has computed for long already, as far as
// MemoryKiB admits; it sets the process's memory limit by that. Nothing can interrupt it within a slot, so that a deadline ends the process. Call Confine before.
func Derive(ctx context.Context, p DeriveParams, files []*os.File, o DeriveOptions, tell func(Told)) {
	// Blocks of argon2 are used again for the next slot, which costs no page faults; what is free is given back only where
	// the limit wants it.
	debug.SetMemoryLimit(int64(min(p.MemoryKiB, 1<<40)<<10 + headroom))
	d := derivation{
		files: files, options: o, memory: newMemory(p.MemoryKiB),
		reading: newTurns(readers, 0), computing: newTurns(runtime.GOMAXPROCS(0), len(p.Volumes)),
	}
	var volumes sync.WaitGroup
	for i, v := range p.Volumes {
		volumes.Go(func() {
			params, err := d.volume(ctx, v, func(doing string) { tell(Told{Volume: i, Doing: doing}) })
			if err != nil {
				tell(Told{Volume: i, Result: &Result{Failure: failureOf(err)}})
			} else {
				tell(Told{Volume: i, Result: &Result{Params: &params}})
			}
		})
	}
	volumes.Wait()
}

// derivation is one run of Derive.
type derivation struct {
	files              []*os.File
	options            DeriveOptions
	memory             *memory
	reading, computing *turns
}

func (d *derivation) volume(ctx context.Context, v DeriveVolume, doing func(string)) (Params, error) {
	h, at, err := d.header(ctx, v, doing)
	if err != nil {
		d.computing.pass()
		return Params{}, err
	}
	leave, err := d.computing.enter(ctx, h.work())
	if err != nil {
		return Params{}, err
	}
	defer leave()
	keys := make([]*secret.Buffer, 0, len(v.Keys))
	defer func() {
		for _, key := range keys {
			key.Destroy()
		}
	}()
	for _, n := range v.Keys {
		key, err := secret.Open(d.files[n], MaxKey)
		if err != nil {
			return Params{}, err
		}
		keys = append(keys, key)
	}
	found, err := h.unlock(ctx, at, keys, d.memory, doing)
	if err != nil {
		return Params{}, err
	}
	defer found.volumeKey.Destroy()
	params := h.params(found)
	params.KeyDescription = describe(h.UUID)
	if err := d.options.Keyring.Add(params.KeyDescription, found.volumeKey.Bytes()); err != nil {
		return Params{}, fmt.Errorf("hand the volume key to the kernel: %w", err)
	}
	return params, nil
}

// header reads and checks the header of a volume, and returns where it was read.
func (d *derivation) header(ctx context.Context, v DeriveVolume, doing func(string)) (*Header, io.ReaderAt, error) {
	for _, n := range append([]int{v.Header}, v.Keys...) {
		if n < 0 || n >= len(d.files) {
			return nil, nil, fmt.Errorf("file %d is not among the %d that were passed", n, len(d.files))
		}
	}
	leave, err := d.reading.enter(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	doing("reading the header")
	source := headerSource{at: d.files[v.Header], detached: v.Detached, dataSize: v.DataSize, foreign: d.options.Foreign}
	h, err := readHeader(source)
	if err == nil && v.UUID != "" && h.UUID != v.UUID {
		err = &NotLUKSError{fmt.Sprintf("it is the volume %s, wanted is %s", h.UUID, v.UUID)}
	}
	return h, source.at, err
}

func (h *Header) params(found opened) Params {
	return Params{
		UUID: h.UUID, Version: h.Version, Secondary: h.Secondary, Damage: h.Damage, Slot: found.slot, Key: found.key,
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
