package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"initd/v2v/convert"
	"initd/v2v/file"
	"initd/v2v/image"
)

// Record says what a disk was made of, and how far that is. There is one a disk, by its WWID.
type Record struct {
	Version int       `json:"version"`
	State   string    `json:"state"` // writing or done
	Machine string    `json:"machine,omitempty"`
	Job     string    `json:"job,omitempty"`
	Image   Template  `json:"image"`
	Target  Target    `json:"target"`
	Started time.Time `json:"started"`
	// Finished is when it was durable and, unless that was declined, verified.
	Finished time.Time `json:"finished,omitzero"`
	Verified bool      `json:"verified"`
	// Digest is convert's, of the image's content, in hex.
	Digest string `json:"digest,omitempty"`
	// Mark is where a later run goes on.
	Mark *convert.Mark `json:"mark,omitempty"`
	// Before are what the disk was before, newest first.
	Before []Former `json:"before,omitempty"`
}

// Former is what a disk was before.
type Former struct {
	State   string    `json:"state"`
	Machine string    `json:"machine,omitempty"`
	Image   string    `json:"image"`
	Started time.Time `json:"started"`
}

// Template identifies an image: a later run goes on only from the same one.
type Template struct {
	Path    string `json:"path"`
	Format  string `json:"format"`
	Size    int64  `json:"size"`    // of the file, in bytes
	Virtual int64  `json:"virtual"` // of the disk, in bytes
	// Disk is which one of an archive it is, if that was said.
	Disk    string    `json:"disk,omitempty"`
	ModTime time.Time `json:"modTime"`
	Inode   uint64    `json:"inode"`
	// Tables is the SHA-256 of the file's first and last 64 KiB, of its further files' stamps, and of the map of its extents.
	Tables string `json:"tables"`
}

// Target identifies a disk.
type Target struct {
	WWID       string `json:"wwid"`
	Size       int64  `json:"size"` // bytes
	SectorSize int    `json:"sectorSize"`
	Portal     string `json:"portal,omitempty"`
	IQN        string `json:"iqn,omitempty"`
	LUN        uint64 `json:"lun"`
	// Path is how it was asked for.
	Path string `json:"path"`
}

const (
	writing    = "writing"
	done       = "done"
	maxBefore  = 20
	maxRecords = 64 << 20 // bytes of one record that are read
)

// recordPath is the record of a disk; empty for one without an identity.
func recordPath(state, wwid string) string {
	if wwid == "" {
		return ""
	}
	// Names of disks are long and hold anything: the digest tells them apart, the rest is for people.
	sum := sha256.Sum256([]byte(wwid))
	plain := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, wwid)
	return filepath.Join(state, "deploy", plain[:min(len(plain), 100)]+"-"+hex.EncodeToString(sum[:6])+".json")
}

// ReadRecord reads the record of a disk; nil without one.
func ReadRecord(state, wwid string) (*Record, error) {
	path := recordPath(state, wwid)
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecords))
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil || r.Version != 1 {
		return nil, fmt.Errorf("%s: cannot be read as a record (%v); move it away, and what it says of the disk is forgotten", path, err)
	}
	return &r, nil
}

// save replaces the record, durably.
func (r *Record) save(state string) error {
	path := recordPath(state, r.Target.WWID)
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("record the deploy: %w", err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("record the deploy: %w", err)
	}
	return nil
}

// succeed begins a record after the one that was.
func succeed(old *Record) []Former {
	if old == nil {
		return nil
	}
	before := append([]Former{{State: old.State, Machine: old.Machine, Image: old.Image.Path, Started: old.Started}}, old.Before...)
	return before[:min(len(before), maxBefore)]
}

// template identifies an opened image. It walks the map: also how much data there are comes of that.
func template(src *file.Source, r image.Reader) (t Template, data int64, err error) {
	info, err := src.Stat()
	if err != nil {
		return Template{}, 0, err
	}
	t = Template{Path: src.Name(), Format: r.Info().Format, Size: src.Size(), Virtual: r.Size(), ModTime: info.ModTime().UTC(), Inode: inode(info)}
	if abs, err := filepath.Abs(t.Path); err == nil {
		t.Path = abs
	}
	h := sha256.New()
	ends := make([]byte, min(src.Size(), 64<<10))
	for _, off := range []int64{0, src.Size() - int64(len(ends))} {
		if _, err := src.ReadAt(ends, off); err != nil && !errors.Is(err, io.EOF) {
			return Template{}, 0, err
		}
		h.Write(ends)
	}
	io.WriteString(h, src.Stamps())
	if data, err = image.WriteMap(h, r); err != nil {
		return Template{}, 0, err
	}
	t.Tables = hex.EncodeToString(h.Sum(nil))
	return t, data, nil
}

// of says whether the record is of a job that was begun after a time, and has ended with this image on this disk.
func (r *Record) of(job string, since time.Time, t Template, d Target) bool {
	return job != "" && !since.IsZero() && r.Job == job && r.State == done && !r.Started.Before(since) && r.Image == t && r.Target.WWID == d.WWID && r.Target.Size == d.Size
}

// goesOn says why an unfinished record cannot be gone on with; empty if it can.
func (r *Record) goesOn(t Template, d Target, disk io.ReaderAt) string {
	switch {
	case r.State != writing:
		return "the last deploy to it had ended"
	case r.Mark == nil:
		return "the earlier run had come to no mark"
	case r.Target.WWID != d.WWID || r.Target.Size != d.Size || r.Target.SectorSize != d.SectorSize:
		return "the disk is not what it was"
	case r.Image != t:
		return "the image is another one, or has changed"
	case r.Mark.Offset < 0 || r.Mark.Offset > t.Virtual:
		return "the record is damaged"
	}
	return r.onDisk(d, disk)
}

// onDisk reads the last blocks before the mark back, and says what is not as it was written; empty if all is.
func (r *Record) onDisk(d Target, disk io.ReaderAt) string {
	for _, c := range r.Mark.Tail {
		if c.Length < 0 || c.Length > 64<<20 || c.Offset < 0 || c.Offset > d.Size-c.Length {
			return "the record is damaged"
		}
		p := make([]byte, c.Length)
		if n, err := disk.ReadAt(p, c.Offset); n != len(p) {
			return fmt.Sprintf("the disk cannot be read at %d: %v", c.Offset, err)
		}
		if sum := sha256.Sum256(p); !bytes.Equal(sum[:], c.SHA256) {
			return fmt.Sprintf("the disk has other data at %d than were written", c.Offset)
		}
	}
	return ""
}
