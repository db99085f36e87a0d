// Package image is the contract of the disk formats: what a reader of one shows, what a writer of one takes, and the errors
// that both speak. It knows no format; each has its package beside this one, and v2v/formats lists them.
//
// It never opens a path, and so can be used where there are no rights to: sources and targets are handed in.
package image

import (
	"io"
	"iter"
)

// Sector is what every size and offset of a virtual disk is a multiple of, in bytes.
const Sector = 512

// Kind says what a range of a virtual disk reads as, and why.
type Kind uint8

const (
	// Hole is stored nowhere and reads as zeros. In a chain it would show what lies below; chains are refused, so it is zeros.
	Hole Kind = iota
	// Zero is said by the format to read as zeros, whether or not room is kept for it.
	Zero
	// Data is stored. It may be zeros all the same.
	Data
)

func (k Kind) String() string {
	switch k {
	case Hole:
		return "hole"
	case Zero:
		return "zero"
	case Data:
		return "data"
	}
	return "invalid"
}

// Extent is a range of the virtual disk that is of one kind, in bytes.
type Extent struct {
	Offset, Length int64
	Kind           Kind
	// Compressed is data that has to be decoded; it has no place of its own.
	Compressed bool
	// Unwritten is plain data that read as zeros, because their place is a hole of the file.
	Unwritten bool
	// File and Place say where plain data lies: the index of the file (0 is the one that was opened, then siblings in the order of
	// Info.Files) and the byte offset there. Place is -1 where there is no such place.
	File  int
	Place int64
}

// End is the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Stored says whether there is something to read.
func (e Extent) Stored() bool { return e.Kind == Data && !e.Unwritten }

// Reader is an opened image. All methods may be called at the same time from several goroutines, except Close.
type Reader interface {
	// ReadAt reads guest data. Holes and zeros are filled in. Reading past Size gives io.EOF as io.ReaderAt says.
	io.ReaderAt
	// Size is the virtual size in bytes, a multiple of Sector.
	Size() int64
	// Extents yields what lies from a byte offset to Size, in order, without a gap or an overlap, neighbours of the same kind
	// joined as far as that costs no memory. It reads tables, never data; after an error it ends.
	Extents(from int64) iter.Seq2[Extent, error]
	// Info describes the image. It is complete once the image is open.
	Info() Info
	Close() error
}

// Lender is implemented by readers that have what they decode in memory of their own: who only looks at it, and writes it on, needs no copy.
type Lender interface {
	Reader
	// Lend calls use with the guest data of [off, off+length), which lie inside the disk, in order and in as many pieces as it likes. They are good until
	// use returns, and may change meanwhile: use looks at nothing twice that has to be the same. An error of use ends it.
	Lend(off, length int64, use func(p []byte, off int64) error) error
}

// Streamer is a reader for a source that comes once and from its beginning (a pipe, a member of a tar).
type Streamer interface {
	// Next gives the next piece of data, at most Info.Unit bytes in ascending order of offset. What is left out is a hole. The bytes
	// are valid until the next call. At the end it returns io.EOF, once all that the format says of itself has been found to agree.
	Next() (offset int64, data []byte, err error)
	Size() int64
	Info() Info
	Close() error
}

// Info is what `v2v info` shows.
type Info struct {
	// Format is qemu-img's name: raw, qcow2, vmdk, vpc, vhdx, vdi.
	Format string
	// Subformat is the format's own word: monolithicSparse, dynamic, ...; empty where there is but one.
	Subformat string
	// Size is the virtual size in bytes.
	Size int64
	// Unit is the granularity of decoding in bytes (cluster, grain, block): reads that begin and end at its multiples decode nothing twice. A power of
	// two; 0 where it does not matter.
	Unit int64
	// Stored is what the image's files occupy, in bytes; -1 if that is not known.
	Stored int64
	// Compressed says that data are, or may be, compressed, and by what: "", zlib, zstd.
	Compressed string
	// Files are the names of the further files that were opened, as the image names them.
	Files []string
	// Details are what else people look for, in the order in which they are shown.
	Details []Detail
	// Counts is what OpenOptions.Counts found; nil where the format counts nothing, or nobody asked.
	Counts *Counts
	// Warnings are what does not keep the image from being read, and should be known.
	Warnings []string
}

// Counts tells how a file's counts of references stand to what refers (qcow2).
type Counts struct {
	// Not is why nothing was compared; empty if it was.
	Not string
	// Leaked is how many clusters are counted more often than used: room that nobody gives back. Low is how many are counted less often: who
	// writes to the image overwrites them.
	Leaked, Low int64
	// NotLeaked is why Leaked was not counted, though the rest was; empty if it was.
	NotLeaked string
	// Marks is how many entries say that they are the only one of their cluster and its count another thing, or the other way around: who writes to the
	// image changes what belongs to a snapshot too, or copies what need not be copied.
	Marks int64
	// First describes the first of them, at most 16.
	First []string
}

// Detail is a line of Info: the standard's name for the thing, and its value.
type Detail struct{ Name, Value string }
