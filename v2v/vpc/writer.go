package vpc

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// Format is VHD.
func Format() image.Format {
	create, resume := blocks.Creating(name, begin)
	return image.Format{
		Name:    name,
		Aliases: []string{"vhd"},
		Probe:   probe,
		Open:    open,
		Create:  create,
		Resume:  resume,
		Sizes:   sizes,
		// The footer is the last sector.
		EndCounts: func(image.Options) bool { return true },
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

func begin(dst image.Target, size int64, opt image.Options, from *blocks.State) (image.Writer, error) {
	size, err := sizes(size, opt)
	if err != nil {
		return nil, err
	}
	f, err := blocks.MainFile(dst, name)
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
	w := &dynamicWriter{foot: foot}
	w.Grower = blocks.Grower{
		F: f, Block: writeBlock, Head: bytes.Repeat([]byte{0xff}, writeBlock/sector/8), Zeros: dst.ReadsZero(), Enter: w.enter,
		Blocks: n, Table: bytes.Repeat([]byte{0xff}, int(image.RoundUp(4*n, sector))), TableAt: batOffset, TableEnd: func(b int64) int64 { return 4 * (b + 1) },
	}
	w.Next = batOffset + int64(len(w.Table))
	if from != nil {
		if err := w.Recover(*from); err != nil {
			return nil, fmt.Errorf("vpc: %w", err)
		}
		return w, nil
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
	foot footer
}

var _ image.Checkpointer = (*dynamicWriter)(nil)

func (w *dynamicWriter) enter(block, at int64) error {
	if at/sector >= batFree-writeBlock/sector {
		return fault(image.TooLarge, "", "vhd-size", "the file passes what its table can address", "choose vhdx")
	}
	binary.BigEndian.PutUint32(w.Table[4*block:], uint32(at/sector))
	return nil
}

func (w *dynamicWriter) Checkpoint() ([]byte, error) { return w.Keep(w.foot.ident()) }

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
	err := blocks.WriteParts(w.F, blocks.Part{B: w.header(), At: footerSize}, blocks.Part{B: w.Table, At: batOffset}, blocks.Part{B: foot, At: w.Next})
	if err != nil {
		return err
	}
	if err := w.F.Truncate(w.Next + footerSize); err != nil {
		return err
	}
	return blocks.Seal(w.F, blocks.Part{B: foot, At: 0})
}

// fixedWriter writes the disk as it is, and a footer behind it.
type fixedWriter struct {
	blocks.Placed
	foot footer
}

var (
	_ image.Placer       = (*fixedWriter)(nil)
	_ image.Checkpointer = (*fixedWriter)(nil)
)

func (w *fixedWriter) Checkpoint() ([]byte, error) { return w.Keep(w.foot.ident()) }

func (w *fixedWriter) Finish() error {
	return blocks.Seal(w.F, blocks.Part{B: w.foot.encode(), At: int64(w.foot.current)})
}
