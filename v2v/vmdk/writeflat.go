package vmdk

import (
	"fmt"
	"strings"

	"initd/v2v/blocks"
	"initd/v2v/image"
)

// splitBytes is where VMware and VirtualBox split a disk: 2047 MiB.
const splitBytes = 2047 << 20

// flatUnit is how much of a flat disk is handed over at once, in bytes.
const flatUnit = 1 << 20

// flatWriter writes each byte at its place, in one file or in several; the descriptor comes last.
type flatWriter struct {
	main  image.File
	desc  description
	zeros bool
	parts []flatPart
	split int64 // bytes of each part but the last
	size  int64
}

type flatPart struct {
	line extentLine
	file image.File
}

var (
	_ image.Placer       = (*flatWriter)(nil)
	_ image.Checkpointer = (*flatWriter)(nil)
)

// siblingName is the name of the nth further file of a disk: disk-flat.vmdk, disk-f001.vmdk, disk-s001.vmdk.
func siblingName(base, what string) string {
	stem := base
	if i := len(base) - len(".vmdk"); i > 0 && strings.EqualFold(base[i:], ".vmdk") {
		stem = base[:i]
	}
	return stem + "-" + what + ".vmdk"
}

func newFlatWriter(dst image.Target, d description, size int64, resumed bool) (*flatWriter, error) {
	main, err := dst.Main()
	if err != nil {
		return nil, err
	}
	if err := unfinished(main); err != nil {
		return nil, err
	}
	w := &flatWriter{main: main, desc: d, zeros: dst.ReadsZero(), split: max(size, sector), size: size}
	if d.set.subformat == splitFlat {
		w.split = splitBytes
	}
	for off := int64(0); off < size || off == 0; off += w.split {
		name := siblingName(dst.Base(), "flat")
		if d.set.subformat == splitFlat {
			name = siblingName(dst.Base(), fmt.Sprintf("f%03d", len(w.parts)+1))
		}
		f, err := dst.Sibling(name)
		if err != nil {
			return nil, err
		}
		n := min(w.split, size-off)
		if resumed && n > 0 && image.ReadFull(f, make([]byte, 1), n-1) != nil {
			return nil, fmt.Errorf("%s: vmdk: the unfinished image has lost its file %s", dst.Base(), name)
		}
		if err := f.Truncate(n); err != nil {
			return nil, err
		}
		w.parts = append(w.parts, flatPart{line: extentLine{access: "RW", kind: "FLAT", file: name, sectors: n / sector}, file: f})
	}
	return w, nil
}

func (w *flatWriter) Unit() int64 { return flatUnit }

func (w *flatWriter) Encode(_ []byte, offset int64, data []byte) (image.Encoded, error) {
	return blocks.Plain(offset, data), nil
}

func (w *flatWriter) Put(units []image.Encoded) error { return blocks.PutPlain(w, units) }

// each calls f with the pieces of a range, by part.
func (w *flatWriter) each(off, length int64, f func(p image.File, in, done, n int64) error) error {
	if off < 0 || length > w.size-off {
		return fmt.Errorf("vmdk: a write of %d bytes at %d, past the disk's end at %d", length, off, w.size)
	}
	for done := int64(0); done < length; {
		i, in := (off+done)/w.split, (off+done)%w.split
		n := min(length-done, w.split-in)
		if err := f(w.parts[i].file, in, done, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}

func (w *flatWriter) WriteAt(p []byte, off int64) (int, error) {
	written := 0
	err := w.each(off, int64(len(p)), func(f image.File, in, done, n int64) error {
		k, err := f.WriteAt(p[done:done+n], in)
		written += k
		return err
	})
	return written, err
}

func (w *flatWriter) ZeroAt(off, length int64) error {
	if w.zeros {
		return nil
	}
	return w.zero(off, length)
}

func (w *flatWriter) zero(off, length int64) error {
	return w.each(off, length, func(f image.File, in, _, n int64) error { return f.Zero(in, n) })
}

func (w *flatWriter) ReadsZero() bool { return w.zeros }

func (w *flatWriter) Forget(off, length int64) error {
	if !w.zeros {
		return nil
	}
	return w.zero(off, length)
}

// Checkpoint needs no more than the identity: every byte's place is known.
func (w *flatWriter) Checkpoint() ([]byte, error) {
	if err := w.sync(); err != nil {
		return nil, err
	}
	return (&state{ID: w.desc.id}).encode(), nil
}

func (w *flatWriter) sync() error {
	for _, p := range w.parts {
		if err := p.file.Sync(); err != nil {
			return fmt.Errorf("%s: %w", p.line.file, err)
		}
	}
	return nil
}

func (w *flatWriter) Finish() error {
	if err := w.sync(); err != nil {
		return err
	}
	var lines []extentLine
	for _, p := range w.parts {
		lines = append(lines, p.line)
	}
	return writeText(w.main, w.desc.text(lines))
}

// unfinished stands in the descriptor's file until the disk is whole: a comment is no descriptor.
func unfinished(f image.File) error {
	_, err := f.WriteAt([]byte("# this disk is not finished\n"), 0)
	return err
}

// writeText makes a file that is a descriptor.
func writeText(f image.File, text []byte) error {
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.Sync()
}

func (w *flatWriter) Close() error { return nil }
