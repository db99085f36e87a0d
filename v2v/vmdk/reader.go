package vmdk

import (
	"io"
	"iter"
	"sort"

	"initd/v2v/image"
)

// part is one extent of a disk.
type part interface {
	size() int64
	// readAt fills p from an offset inside the part.
	readAt(p []byte, off int64) error
	// extents yields what lies from an offset to the part's end; base is the part's place on the disk. It says whether to go on.
	extents(base, from int64, yield func(image.Extent, error) bool) bool
	close() error
}

// reader is a disk of one part or several.
type reader struct {
	parts  []part
	starts []int64 // where each part begins, in bytes
	info   image.Info
	// also is a further file to close: the descriptor, which is no part.
	also io.Closer
}

func (r *reader) add(p part) {
	r.starts = append(r.starts, r.info.Size)
	r.parts = append(r.parts, p)
	r.info.Size += p.size()
}

func (r *reader) Size() int64      { return r.info.Size }
func (r *reader) Info() image.Info { return r.info }

// find gives the part that an offset lies in.
func (r *reader) find(off int64) int {
	return sort.Search(len(r.starts), func(i int) bool { return r.starts[i] > off }) - 1
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= r.info.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.info.Size-off
	if short {
		p = p[:r.info.Size-off]
	}
	done := 0
	for i := r.find(off); done < len(p); i++ {
		in := off + int64(done) - r.starts[i]
		n := min(int64(len(p)-done), r.parts[i].size()-in)
		if n <= 0 { // an empty part
			continue
		}
		if err := r.parts[i].readAt(p[done:done+int(n)], in); err != nil {
			return done, err
		}
		done += int(n)
	}
	if short {
		return done, io.EOF
	}
	return done, nil
}

// Extents joins neighbours of one kind, also over the borders of parts.
func (r *reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		if from < 0 || from >= r.info.Size {
			return
		}
		var held image.Extent
		stopped := false
		join := func(e image.Extent, err error) bool {
			if err != nil {
				stopped = true
				if held.Length == 0 || yield(held, nil) {
					yield(image.Extent{}, err)
				}
				return false
			}
			if held.Length > 0 && e.Kind == held.Kind && e.Compressed == held.Compressed && e.File == held.File &&
				(e.Place < 0 && held.Place < 0 || e.Place >= 0 && e.Place == held.Place+held.Length) {
				held.Length += e.Length
				return true
			}
			if held.Length > 0 && !yield(held, nil) {
				stopped = true
				return false
			}
			held = e
			return true
		}
		for i := r.find(from); i < len(r.parts); i++ {
			if !r.parts[i].extents(r.starts[i], max(0, from-r.starts[i]), join) {
				break
			}
		}
		if !stopped && held.Length > 0 {
			yield(held, nil)
		}
	}
}

func (r *reader) Close() error {
	var first error
	for _, p := range r.parts {
		if err := p.close(); err != nil && first == nil {
			first = err
		}
	}
	if r.also != nil {
		if err := r.also.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
