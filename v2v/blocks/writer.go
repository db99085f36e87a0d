package blocks

import "initd/v2v/image"

// Unit is what writers of this package take at a time, in bytes.
const Unit = 256 << 10

// Grower puts the data of a disk into blocks at the end of a file, as they come. A format embeds it, and writes its tables.
type Grower struct {
	F image.File
	// Block is the size of a block, Head what stands before the data of each (VHD's bitmap); both in bytes.
	Block int64
	Head  []byte
	// Next is the first free byte of the file. The first block begins there.
	Next int64
	// Enter notes in the format's table that a block begins at a byte of the file, and may refuse.
	Enter func(block, at int64) error
	// Zeros says that what was never written to the file reads as zeros.
	Zeros bool
	// Blocks is how many the disk has. Table is what Enter fills, as it lies in the file from TableAt on; TableEnd is how many bytes of it are
	// final when a block was begun.
	Blocks   int64
	Table    []byte
	TableAt  int64
	TableEnd func(block int64) int64

	cur    int64 // the block being written, if any
	place  int64 // of its data; 0 without one
	done   int64 // the first byte of the disk that was not put
	stored int64 // bytes of the table that are in the file
}

// Unit is image.Writer's: the smaller of Unit and the block.
func (g *Grower) Unit() int64 { return min(Unit, g.Block) }

// Encode is image.Writer's: data are stored as they are.
func (g *Grower) Encode(_ []byte, offset int64, data []byte) (image.Encoded, error) {
	return Plain(offset, data), nil
}

// Put is image.Writer's.
func (g *Grower) Put(units []image.Encoded) error {
	for _, u := range units {
		if b := u.Offset / g.Block; b != g.cur || g.place == 0 {
			if err := g.begin(b); err != nil {
				return err
			}
		}
		if _, err := g.F.WriteAt(u.Bytes, g.place+u.Offset%g.Block); err != nil {
			return err
		}
		g.done = u.Offset + u.Length
	}
	return nil
}

// begin takes room for a block. The file ends with its last block, whole.
func (g *Grower) begin(block int64) error {
	head := int64(len(g.Head))
	if err := g.Enter(block, g.Next); err != nil {
		return err
	}
	if !g.Zeros {
		if err := g.F.Zero(g.Next+head, g.Block); err != nil {
			return err
		}
	}
	if head > 0 {
		if _, err := g.F.WriteAt(g.Head, g.Next); err != nil {
			return err
		}
	}
	g.cur, g.place = block, g.Next+head
	g.Next = g.place + g.Block
	return nil
}

// Close is image.Writer's.
func (g *Grower) Close() error { return nil }

// Current is the block that was begun last, and whether there is one.
func (g *Grower) Current() (block int64, any bool) { return g.cur, g.place > 0 }

// Placed writes to a file in which the disk lies as it is, from Base on. A format embeds it, and writes its headers.
type Placed struct {
	F     image.File
	Base  int64
	Zeros bool
}

// Unit is image.Writer's.
func (w *Placed) Unit() int64 { return 1 << 20 }

// Encode is image.Writer's.
func (w *Placed) Encode(_ []byte, offset int64, data []byte) (image.Encoded, error) {
	return Plain(offset, data), nil
}

// Put is image.Writer's.
func (w *Placed) Put(units []image.Encoded) error { return PutPlain(w, units) }

// Close is image.Writer's.
func (w *Placed) Close() error { return nil }

// WriteAt is image.Placer's.
func (w *Placed) WriteAt(p []byte, off int64) (int, error) { return w.F.WriteAt(p, w.Base+off) }

// ReadsZero is image.Placer's.
func (w *Placed) ReadsZero() bool { return w.Zeros }

// Forget is image.Placer's.
func (w *Placed) Forget(off, length int64) error {
	if !w.Zeros || length <= 0 {
		return nil
	}
	return w.F.Zero(w.Base+off, length)
}

// ZeroAt is image.Placer's.
func (w *Placed) ZeroAt(off, length int64) error {
	if w.Zeros || length == 0 {
		return nil
	}
	return w.F.Zero(w.Base+off, length)
}
