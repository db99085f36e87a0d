package image

import "io"

// Source is an image's file as a format sees it. Safe for use by several goroutines.
type Source interface {
	io.ReaderAt
	// Size is the length in bytes: of a file its size, of a block device what it holds.
	Size() int64
	// Name is for messages only.
	Name() string
	// Sibling opens a further file that the image names. The name is the image's word and not to be trusted: whoever implements this opens
	// only a regular file beside this one, or refuses with an *Error of kind Refused. It may be refused altogether.
	Sibling(name string) (Source, error)
	Close() error
}

// Mapper is implemented by sources that know where they hold nothing (SEEK_HOLE). raw and the flat formats use it.
type Mapper interface {
	// NextData gives the first range with data at or after an offset: [start, end). At the end of the data it returns io.EOF.
	NextData(from int64) (start, end int64, err error)
}

// File is what a target gives to a writer. A new one reads as zeros where nothing was written, unless its target says otherwise.
type File interface {
	io.WriterAt
	io.ReaderAt
	// Truncate sets the size in bytes. On a block device it checks that the size fits, and cuts nothing.
	Truncate(size int64) error
	// Zero makes a range read as zeros by the cheapest way that is certain: a hole in a file, BLKZEROOUT on a device, writes at the worst.
	Zero(off, length int64) error
	// Sync makes durable what was written.
	Sync() error
}

// Target is where an image is written to. It has one file under the image's own name, and siblings where the format has several. Nothing
// appears under its final name before the one who made the target commits it; formats never do.
type Target interface {
	// Base is the final name of the image's file, without a directory: descriptors name siblings after it.
	Base() string
	// Main is the image's file.
	Main() (File, error)
	// Sibling is a further file, by its final name beside the image.
	Sibling(name string) (File, error)
	// Seekable says whether files can be written anywhere, or only appended to in order (standard output).
	Seekable() bool
	// ReadsZero says whether new files read as zeros where nothing was written. A block device's do not.
	ReadsZero() bool
}
