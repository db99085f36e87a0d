package vmdk

import (
	"fmt"

	"initd/v2v/image"
)

// splitWriter writes twoGbMaxExtentSparse: a text and files of 2047 MiB of the disk each.
type splitWriter struct {
	dst   image.Target
	main  image.File
	desc  description
	size  int64
	part  int // the extent that is being written
	e     *extentFile
	lines []extentLine
	done  int64
}

var _ image.Checkpointer = (*splitWriter)(nil)

func newSplitWriter(dst image.Target, d description, size int64, from *state) (*splitWriter, error) {
	main, err := dst.Main()
	if err != nil {
		return nil, err
	}
	if err := unfinished(main); err != nil {
		return nil, err
	}
	w := &splitWriter{dst: dst, main: main, desc: d, size: size}
	for off := int64(0); off < size || off == 0; off += splitBytes {
		n := min(splitBytes, size-off)
		w.lines = append(w.lines, extentLine{access: "RW", kind: "SPARSE", file: siblingName(dst.Base(), fmt.Sprintf("s%03d", len(w.lines)+1)), sectors: n / sector})
	}
	if from == nil {
		return w, w.begin(0, nil)
	}
	if from.Part >= len(w.lines) {
		return nil, fmt.Errorf("%s: vmdk: the record of the unfinished image is of another disk", dst.Base())
	}
	for _, line := range w.lines[:from.Part] {
		if err := w.keep(line); err != nil {
			return nil, err
		}
	}
	w.done = from.Done
	local := *from
	local.Done = max(0, from.Done-int64(from.Part)*splitBytes)
	return w, w.begin(from.Part, &local)
}

// keep takes over a file that an earlier life finished: it gets its name with the others.
func (w *splitWriter) keep(line extentLine) error {
	f, err := w.dst.Sibling(line.file)
	if err != nil {
		return err
	}
	magic := make([]byte, len(magicSparse))
	if err := image.ReadFull(f, magic, 0); err != nil || string(magic) != magicSparse {
		return fmt.Errorf("%s: vmdk: the unfinished image has lost its finished file %s", w.dst.Base(), line.file)
	}
	return nil
}

// begin opens the file of an extent.
func (w *splitWriter) begin(part int, from *state) error {
	line := w.lines[part]
	f, err := w.dst.Sibling(line.file)
	if err != nil {
		return err
	}
	if from == nil {
		// An earlier life may have come further.
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	w.part = part
	w.e, err = newExtentFile(f, line.file, newLayout(line.sectors, false, false), nil, w.dst.ReadsZero(), from)
	return err
}

// reach finishes extents up to one. Those without data are files too.
func (w *splitWriter) reach(part int) error {
	for w.part < part {
		if err := w.e.finish(); err != nil {
			return err
		}
		if err := w.begin(w.part+1, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *splitWriter) Unit() int64 { return writeUnit }

func (w *splitWriter) Encode(_ []byte, offset int64, data []byte) (image.Encoded, error) {
	return plainGrain(offset, data), nil
}

func (w *splitWriter) Put(units []image.Encoded) error {
	for _, u := range units {
		// A unit lies in one extent: 2047 MiB are a whole number of them.
		if err := w.reach(int(u.Offset / splitBytes)); err != nil {
			return err
		}
		if err := w.e.put(u.Offset%splitBytes, u.Bytes, splitSparse); err != nil {
			return err
		}
		w.done = u.Offset + u.Length
	}
	return nil
}

func (w *splitWriter) Checkpoint() ([]byte, error) {
	return w.e.keep(state{ID: w.desc.id, Part: w.part, Done: w.done})
}

func (w *splitWriter) Finish() error {
	if err := w.reach(len(w.lines) - 1); err != nil {
		return err
	}
	if err := w.e.finish(); err != nil {
		return err
	}
	return writeText(w.main, w.desc.text(w.lines))
}

func (w *splitWriter) Close() error { return nil }
