package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/google/renameio/v2"

	"initd/v2v/file"
	"initd/v2v/image"
)

// saveEvery is the default of Request.SaveEvery.
const saveEvery = 256 << 20

// maxNotes bounds what is read back, in bytes.
const maxNotes = 64 << 20

// notes are what a run that resumes leaves beside its target.
type notes struct {
	Identity identity
	Mark
	path  string
	saved bool // there are notes that a later run can use
}

// identity is what has to be the same for a later run to go on.
type identity struct {
	Version      int
	Source       string
	SourceFormat string
	SourceSize   int64
	ModTime      int64 // in ns since 1970
	Inode        uint64
	Device       uint64
	// Disk is which one of an archive: two of the same size and map are told apart by nothing else.
	Disk string
	// Ends is the SHA-256 of the file's first and last 64 KiB and of its further files' stamps, Map that of all extents: of the tables, then.
	Ends, Map    []byte
	TargetFormat string
	Options      []string
	Size         int64 // of the target's disk
}

// identity tells what is being done. A source that cannot be read at its ends has been read there before.
func (j *job) identity() identity {
	id := identity{Version: 1, Source: j.Source, SourceFormat: j.out.Source.Format, SourceSize: j.src.Size(), Map: j.maps,
		TargetFormat: j.format.Name, Size: j.written, Disk: j.Opening.Disk}
	if abs, err := filepath.Abs(j.Source); err == nil {
		id.Source = abs
	}
	if info, err := j.src.Stat(); err == nil {
		id.ModTime = info.ModTime().UnixNano()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			id.Inode, id.Device = st.Ino, st.Dev
		}
	}
	h := sha256.New()
	ends := make([]byte, min(j.src.Size(), 64<<10))
	for _, off := range []int64{0, j.src.Size() - int64(len(ends))} {
		n, _ := j.src.ReadAt(ends, off)
		h.Write(ends[:n])
	}
	io.WriteString(h, j.src.Stamps())
	id.Ends = h.Sum(nil)
	for _, k := range slices.Sorted(maps.Keys(j.options)) {
		id.Options = append(id.Options, k+"="+j.options[k])
	}
	return id
}

// differs names the first thing that is not the same.
func (i identity) differs(o identity) string {
	switch {
	case i.Version != o.Version:
		return "another version of this program began it"
	case i.Source != o.Source || i.Inode != o.Inode || i.Device != o.Device:
		return "it was begun from another file, " + o.Source
	case i.Disk != o.Disk:
		return "it was begun from another disk of the archive"
	case i.SourceSize != o.SourceSize || i.ModTime != o.ModTime || !bytes.Equal(i.Ends, o.Ends) || !bytes.Equal(i.Map, o.Map):
		return "the source has changed since"
	case i.SourceFormat != o.SourceFormat || i.TargetFormat != o.TargetFormat || !slices.Equal(i.Options, o.Options) || i.Size != o.Size:
		return "formats or options are others than before"
	}
	return ""
}

// load reads the notes of an earlier run. It gives why they cannot be used; "" if they can.
func (n *notes) load(dst *file.Target, plain bool) string {
	if !dst.Resumed() {
		return "nothing was begun"
	}
	data, err := readSmall(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "the earlier run had come to no mark"
	}
	if err != nil {
		return fmt.Sprintf("%s cannot be read: %v", n.path, err)
	}
	var old notes
	if err := json.Unmarshal(data, &old); err != nil {
		return fmt.Sprintf("%s cannot be read: %v", n.path, err)
	}
	if why := n.Identity.differs(old.Identity); why != "" {
		return why
	}
	if plain {
		if why := stillThere(dst, old.Tail); why != "" {
			return why
		}
	}
	n.Mark = old.Mark
	return ""
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxNotes {
		return nil, fmt.Errorf("%s has %d bytes, which no run wrote; remove it", path, info.Size())
	}
	return os.ReadFile(path)
}

// stillThere reads the last blocks before the mark back.
func stillThere(dst *file.Target, tail []ChunkSum) string {
	f, err := dst.Main()
	if err != nil {
		return err.Error()
	}
	for _, c := range tail {
		if c.Length < 0 || c.Length > sumBlock {
			return "the notes are damaged"
		}
		p := make([]byte, c.Length)
		if err := readFull(f, p, c.Offset); err != nil {
			return fmt.Sprintf("the unfinished file cannot be read: %v", err)
		}
		if sum := sha256.Sum256(p); !bytes.Equal(sum[:], c.SHA256) {
			return fmt.Sprintf("the unfinished file has other data at %d than were written", c.Offset)
		}
	}
	return ""
}

func (n *notes) save(m Mark) error {
	n.Mark = m
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	// renameio makes file and name durable; the target was, before.
	if err := renameio.WriteFile(n.path, data, 0o600); err != nil {
		return fmt.Errorf("note how far the conversion is: %w", err)
	}
	n.saved = true
	return nil
}

// mapped walks the map: its digest, and how much data there are.
func mapped(r image.Reader) (digest []byte, data int64, err error) {
	h := sha256.New()
	if data, err = image.WriteMap(h, r); err != nil {
		return nil, 0, err
	}
	return h.Sum(nil), data, nil
}

// cut shows the beginning of a disk.
type cut struct {
	image.Reader
	size int64
}

func (c cut) Size() int64 { return c.size }

func (c cut) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		for e, err := range c.Reader.Extents(from) {
			if err == nil {
				if e.Offset >= c.size {
					return
				}
				e.Length = min(e.End(), c.size) - e.Offset
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// zeroTail reads what lies behind an offset.
func zeroTail(r image.Reader, from int64) error {
	buf := make([]byte, 64<<10)
	for at := from; at < r.Size(); {
		p := buf[:min(int64(len(buf)), r.Size()-at)]
		if err := readFull(r, p, at); err != nil {
			return err
		}
		if !image.IsZero(p) {
			return fmt.Errorf("there is something at %d, behind the end of the source", at)
		}
		at += int64(len(p))
	}
	return nil
}
