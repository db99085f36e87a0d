package vpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// Format is VHD.
func Format() image.Format {
	return image.Format{
		Name:    name,
		Aliases: []string{"vhd"},
		Probe:   probe,
		Open:    open,
		Create:  create,
		Resume:  resume,
		Sizes:   sizes,
		Options: []image.Option{
			{Name: "subformat", Default: "dynamic", Help: "whether the file grows with its data; Azure wants fixed", Values: []string{"dynamic", "fixed"}},
			{Name: "force_size", Default: "on", Help: "on keeps the exact size; off rounds it up to what the geometry expresses, as qemu-img does unless it is told otherwise",
				Values: []string{"on", "off"}},
		},
	}
}

func sizes(size int64, opt image.Options) (int64, error) {
	if size < 0 || size > maxSectors*sector {
		return 0, fault(image.TooLarge, "", "vhd-size", fmt.Sprintf("a disk of %d bytes; the format ends at %d (2040 GiB)", size, int64(maxSectors*sector)), "choose vhdx")
	}
	size = image.RoundUp(size, sector)
	if opt["force_size"] == "off" {
		size = roundToCHS(size/sector) * sector
	}
	return size, nil
}

func create(_ context.Context, dst image.Target, size int64, opt image.Options) (image.Writer, error) {
	return begin(dst, size, opt, nil)
}

func resume(_ context.Context, dst image.Target, size int64, opt image.Options, b []byte) (image.Writer, error) {
	s, err := blocks.DecodeState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: vpc: the record of the unfinished image: %w", dst.Base(), err)
	}
	return begin(dst, size, opt, &s)
}

func begin(dst image.Target, size int64, opt image.Options, from *blocks.State) (image.Writer, error) {
	size, err := sizes(size, opt)
	if err != nil {
		return nil, err
	}
	if !dst.Seekable() {
		return nil, fmt.Errorf("%s: vpc: it cannot be written to a pipe; name a file", dst.Base())
	}
	f, err := dst.Main()
	if err != nil {
		return nil, err
	}
	foot := newFooter(size, opt["force_size"] == "off")
	if from != nil {
		if err := foot.takeID(from.ID); err != nil {
			return nil, fmt.Errorf("%s: vpc: the record of the unfinished image: %w", dst.Base(), err)
		}
	}
	if opt["subformat"] == "fixed" {
		foot.kind, foot.dataOffset = typeFixed, noOffset
		w := &fixedWriter{Placed: blocks.Placed{F: f, Zeros: dst.ReadsZero()}, foot: foot}
		return w, f.Truncate(size + footerSize)
	}
	n := (size + writeBlock - 1) / writeBlock
	w := &dynamicWriter{foot: foot, bat: bytes.Repeat([]byte{0xff}, int(image.RoundUp(4*n, sector)))}
	w.Grower = blocks.Grower{F: f, Block: writeBlock, Head: bytes.Repeat([]byte{0xff}, writeBlock/sector/8), Next: batOffset + int64(len(w.bat)), Zeros: dst.ReadsZero(), Enter: w.enter}
	if from != nil {
		return w, w.recover(*from)
	}
	return w, f.Zero(0, footerSize)
}

// newFooter is the footer of a dynamic disk.
func newFooter(size int64, chs bool) footer {
	f := footer{dataOffset: footerSize, stamp: uint32(time.Now().Unix() - epoch), creator: creator, current: uint64(size), kind: typeDynamic}
	if chs && size <= 65535*16*255*sector {
		f.creator = creatorCHS
	}
	f.cylinders, f.heads, f.spt = geometry(size / sector)
	_, _ = rand.Read(f.id[:]) // it never fails
	f.id[6] = f.id[6]&0x0f | 0x40
	f.id[8] = f.id[8]&0x3f | 0x80
	return f
}

// ident keeps the identity and the time over a checkpoint.
func (f footer) ident() string { return fmt.Sprintf("%x%08x", f.id, f.stamp) }

func (f *footer) takeID(s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 20 {
		return fmt.Errorf("%q is no identity", s)
	}
	copy(f.id[:], b)
	f.stamp = binary.BigEndian.Uint32(b[16:])
	return nil
}

// batOffset is where the table begins: behind the copy of the footer and the header.
const batOffset = footerSize + dynamicSize

// dynamicWriter grows by blocks.
type dynamicWriter struct {
	blocks.Grower
	foot   footer
	bat    []byte
	stored int // bytes of the table that are in the file
}

var _ image.Checkpointer = (*dynamicWriter)(nil)

func (w *dynamicWriter) enter(block, at int64) error {
	if at/sector >= batFree-writeBlock/sector {
		return fault(image.TooLarge, "", "vhd-size", "the file passes what its table can address", "choose vhdx")
	}
	binary.BigEndian.PutUint32(w.bat[4*block:], uint32(at/sector))
	return nil
}

func (w *dynamicWriter) Checkpoint() ([]byte, error) {
	if b, any := w.Current(); any {
		to := int(4 * (b + 1))
		if _, err := w.F.WriteAt(w.bat[w.stored:to], batOffset+int64(w.stored)); err != nil {
			return nil, err
		}
		w.stored = to
	}
	if err := w.F.Sync(); err != nil {
		return nil, err
	}
	return w.State(w.foot.ident()), nil
}

// recover reads the table as it was at a checkpoint.
func (w *dynamicWriter) recover(s blocks.State) error {
	if err := w.Resume(s); err != nil {
		return fmt.Errorf("vpc: %w", err)
	}
	b, any := w.Current()
	if !any {
		return nil
	}
	if 4*(b+1) > int64(len(w.bat)) {
		return errors.New("vpc: the record of the unfinished image is of another one")
	}
	if err := blocks.ReadFull(w.F, w.bat[:4*(b+1)], batOffset); err != nil {
		return fmt.Errorf("vpc: read the table of the unfinished image: %w", err)
	}
	return nil
}

// header is the dynamic disk header.
func (w *dynamicWriter) header() []byte {
	b := make([]byte, dynamicSize)
	be := binary.BigEndian
	copy(b, dynamicCookie)
	be.PutUint64(b[8:], noOffset)
	be.PutUint64(b[16:], batOffset)
	be.PutUint32(b[24:], version)
	be.PutUint32(b[28:], uint32((w.foot.current+writeBlock-1)/writeBlock))
	be.PutUint32(b[32:], writeBlock)
	be.PutUint32(b[36:], checksum(b, 36))
	return b
}

// Finish writes the tables, then the footer, and its copy at the beginning last.
func (w *dynamicWriter) Finish() error {
	foot := w.foot.encode()
	for _, part := range []struct {
		b  []byte
		at int64
	}{{w.header(), footerSize}, {w.bat, batOffset}, {foot, w.Next}} {
		if _, err := w.F.WriteAt(part.b, part.at); err != nil {
			return err
		}
	}
	if err := w.F.Truncate(w.Next + footerSize); err != nil {
		return err
	}
	if err := w.F.Sync(); err != nil {
		return err
	}
	if _, err := w.F.WriteAt(foot, 0); err != nil {
		return err
	}
	return w.F.Sync()
}

func (w *dynamicWriter) Close() error { return nil }

// fixedWriter writes the disk as it is, and a footer behind it.
type fixedWriter struct {
	blocks.Placed
	foot footer
}

var (
	_ image.Placer       = (*fixedWriter)(nil)
	_ image.Checkpointer = (*fixedWriter)(nil)
)

func (w *fixedWriter) Checkpoint() ([]byte, error) {
	if err := w.F.Sync(); err != nil {
		return nil, err
	}
	return (&blocks.Grower{}).State(w.foot.ident()), nil
}

func (w *fixedWriter) Finish() error {
	if err := w.F.Sync(); err != nil {
		return err
	}
	if _, err := w.F.WriteAt(w.foot.encode(), int64(w.foot.current)); err != nil {
		return err
	}
	return w.F.Sync()
}

func (w *fixedWriter) Close() error { return nil }
