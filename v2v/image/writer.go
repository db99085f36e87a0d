package image

// Writer makes an image. The order of calls is: Encode from any goroutine, Put in ascending order from one, then Finish, then Close; Close
// without Finish gives up and leaves nothing that could be taken for a whole image (a format's magic is written last).
type Writer interface {
	// Unit is what Encode takes at a time, in bytes, a power of two. The last unit of a disk may be shorter.
	Unit() int64
	// Encode turns the guest data of one unit, which begins at the given offset, into what the image stores. It appends to dst, is pure, and
	// is safe for use by several goroutines at once. It may return data itself where nothing is to be done.
	Encode(dst []byte, offset int64, data []byte) (Encoded, error)
	// Put stores units, in ascending order of offset, each at most once. What is never put reads as zeros. The bytes of the units may be
	// reused after it has returned.
	Put(units []Encoded) error
	// Finish writes all that makes the image whole, and makes it durable.
	Finish() error
	// Close frees what is held. After Finish it does nothing else.
	Close() error
}

// Encoded is a unit in its stored form.
type Encoded struct {
	// Offset is the guest offset of the unit, Length how much of the disk it stands for.
	Offset, Length int64
	// Bytes are what is stored.
	Bytes []byte
	// Plain says that Bytes are the guest data as they are, because encoding would not have paid.
	Plain bool
}

// Placer is implemented by writers that know each byte's place from the beginning (raw, and the fixed and flat subformats). The
// pipeline then writes from several goroutines and does not need Encode and Put.
type Placer interface {
	Writer
	// WriteAt writes guest data at a guest offset. Safe for several goroutines on ranges that do not overlap.
	WriteAt(p []byte, off int64) (int, error)
	// ZeroAt makes a range read as zeros, by the cheapest way that is certain. Where a fresh target reads as zeros anyway (ReadsZero) it does nothing.
	ZeroAt(off, length int64) error
	ReadsZero() bool
	// Forget makes a range read as zeros that an earlier process may have written to, after the checkpoint that this one goes on from. Where ZeroAt
	// does it anyway it does nothing.
	Forget(off, length int64) error
}

// Checkpointer is implemented by writers that can go on where an earlier process ended.
type Checkpointer interface {
	Writer
	// Checkpoint makes durable what was put so far and gives what Format.Resume needs to go on after it: all that was put before
	// this call is kept, what came after it may be put again.
	Checkpoint() ([]byte, error)
}
