package vhdx

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf16"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// Format is VHDX.
func Format() image.Format {
	create, resume := blocks.Creating(name, begin)
	return image.Format{
		Name:   name,
		Probe:  probe,
		Open:   open,
		Create: create,
		Resume: resume,
		Sizes:  sizes,
		Options: []image.Option{
			{Name: "subformat", Default: "dynamic", Help: "only dynamic disks are written", Values: []string{"dynamic"}},
			{Name: "block_size", Default: "by the size: 8M to 64M", Help: "bytes of a block: a power of two from 1M to 256M"},
		},
	}
}

// Where the parts of a written file are, in bytes. The table comes last of them, because its length depends on the disk.
const (
	logAt      = mib
	logLength  = mib
	metaAt     = 2 * mib
	metaLength = mib
	batAt      = 3 * mib
)

func sizes(size int64, opt image.Options) (int64, error) {
	if size < 0 || size > maxSize {
		return 0, fault(image.TooLarge, "", "vhdx-size", fmt.Sprintf("a disk of %d bytes; the format ends at %d (64 TiB)", size, int64(maxSize)), "choose raw or qcow2")
	}
	size = image.RoundUp(size, sector)
	_, err := blockSize(size, opt)
	return size, err
}

// blockSize is qemu-img's choice by the size of the disk, unless the user has another one.
func blockSize(size int64, opt image.Options) (uint32, error) {
	n := int64(8 * mib)
	switch {
	case size > 32<<40:
		n = 64 * mib
	case size > 100<<30:
		n = 32 * mib
	case size > 1<<30:
		n = 16 * mib
	}
	if word, said := opt["block_size"]; said {
		var err error
		if n, err = image.Bytes(word); err != nil || n < minBlock || n > maxBlock || n&(n-1) != 0 {
			return 0, fmt.Errorf("vhdx: block_size=%s: say a power of two from 1M to 256M", word)
		}
	}
	if size/n > maxEntries/2 {
		return 0, fmt.Errorf("vhdx: block_size=%s: too small for a disk of %d bytes; leave it out", opt["block_size"], size)
	}
	return uint32(n), nil
}

// writer grows by blocks.
type writer struct {
	blocks.Grower
	ids ids
	p   parameters
}

var _ image.Checkpointer = (*writer)(nil)

func begin(dst image.Target, size int64, opt image.Options, from *blocks.State) (image.Writer, error) {
	size, err := sizes(size, opt)
	if err != nil {
		return nil, err
	}
	block, err := blockSize(size, opt)
	if err != nil {
		return nil, err
	}
	f, err := blocks.MainFile(dst, name)
	if err != nil {
		return nil, err
	}
	w := &writer{ids: newIDs(), p: parameters{block: block, size: uint64(size), logical: sector, physical: 4096, page83: newGUID()}}
	w.Grower = blocks.Grower{
		F: f, Block: int64(block), Zeros: dst.ReadsZero(), Enter: w.enter,
		Blocks: w.p.blocks(), Table: make([]byte, image.RoundUp(max(1, 8*w.p.entries()), mib)), TableAt: batAt, TableEnd: func(b int64) int64 { return 8 * (w.p.index(b) + 1) },
	}
	w.Next = batAt + int64(len(w.Table))
	if from != nil {
		return w, w.recover(*from)
	}
	// Until the end nothing is there that could be taken for a header.
	return w, f.Zero(0, sectionEnd)
}

func newGUID() guid { return blocks.NewGUID() }

func (w *writer) enter(block, at int64) error {
	binary.LittleEndian.PutUint64(w.Table[8*w.p.index(block):], uint64(at/mib)<<20|statePresent)
	return nil
}

func (w *writer) Checkpoint() ([]byte, error) { return w.Keep(hex.EncodeToString(w.p.page83[:])) }

// recover reads the table as it was at a checkpoint.
func (w *writer) recover(s blocks.State) error {
	id, err := hex.DecodeString(s.ID)
	if err != nil || len(id) != len(w.p.page83) {
		return errors.New("vhdx: the record of the unfinished image has no identity")
	}
	w.p.page83 = guid(id)
	if err := w.Recover(s); err != nil {
		return fmt.Errorf("vhdx: %w", err)
	}
	return nil
}

// Finish writes the tables, then the two headers, and the signature of the file last.
func (w *writer) Finish() error {
	regions := w.regions()
	err := blocks.WriteParts(w.F, blocks.Part{B: make([]byte, logLength), At: logAt}, blocks.Part{B: w.metadata(), At: metaAt},
		blocks.Part{B: w.Table, At: batAt}, blocks.Part{B: regions, At: regionAt1}, blocks.Part{B: regions, At: regionAt2})
	if err != nil {
		return err
	}
	if err := w.F.Truncate(w.Next); err != nil {
		return err
	}
	// An empty log: its GUID is null, so there is nothing to replay. The second header is the present one.
	h := header{sequence: 1, fileWrite: newGUID(), dataWrite: newGUID(), version: 1, logLength: logLength, logOffset: logAt}
	if _, err := w.F.WriteAt(h.encode(), headerAt1); err != nil {
		return err
	}
	h.sequence++
	if _, err := w.F.WriteAt(h.encode(), headerAt2); err != nil {
		return err
	}
	return blocks.Seal(w.F, blocks.Part{B: fileID(), At: 0})
}

// fileID is the file type identifier ([MS-VHDX] 2.2.1); the creator is for people.
func fileID() []byte {
	b := make([]byte, 64*kib)
	copy(b, fileMagic)
	for i, c := range utf16.Encode([]rune("v2v")) {
		binary.LittleEndian.PutUint16(b[8+2*i:], c)
	}
	return b
}

func (w *writer) regions() []byte {
	b := make([]byte, regionSize)
	le := binary.LittleEndian
	copy(b, regiMagic)
	le.PutUint32(b[8:], 2)
	for i, r := range []struct {
		id         guid
		at, length int64
	}{{w.ids.bat, batAt, int64(len(w.Table))}, {w.ids.metadata, metaAt, metaLength}} {
		e := b[16+32*i:]
		copy(e, r.id[:])
		le.PutUint64(e[16:], uint64(r.at))
		le.PutUint32(e[24:], uint32(r.length))
		le.PutUint32(e[28:], 1) // required
	}
	le.PutUint32(b[4:], checksum(b, 4))
	return b
}

func (w *writer) metadata() []byte {
	b := make([]byte, metaLength)
	le := binary.LittleEndian
	copy(b, metaMagic)
	at := metaTable
	n := 0
	add := func(id guid, flags uint32, value []byte) {
		e := b[32+32*n:]
		copy(e, id[:])
		le.PutUint32(e[16:], uint32(at))
		le.PutUint32(e[20:], uint32(len(value)))
		le.PutUint32(e[24:], flags)
		at += copy(b[at:], value)
		n++
	}
	u32 := func(v uint32) []byte { return le.AppendUint32(nil, v) }
	add(w.ids.parameters, flagRequired, append(u32(w.p.block), u32(0)...))
	add(w.ids.size, flagRequired|flagDisk, le.AppendUint64(nil, w.p.size))
	add(w.ids.page83, flagRequired|flagDisk, w.p.page83[:])
	add(w.ids.logical, flagRequired|flagDisk, u32(w.p.logical))
	add(w.ids.physical, flagRequired|flagDisk, u32(w.p.physical))
	le.PutUint16(b[10:], uint16(n))
	return b
}
