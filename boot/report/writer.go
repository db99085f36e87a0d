package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine bounds a record, in bytes. Readers skip longer lines.
const MaxLine = 256 << 10

// Writer appends events to a file, each with one write. It may be used from
// several goroutines, and several processes may append to one file.
type Writer struct {
	gen   uint64
	clock func() time.Duration

	mu   sync.Mutex
	file *os.File // guarded by mu
	seq  uint64   // guarded by mu; of the last record
}

// Open opens or creates the event file for appending as generation gen.
func Open(path string, gen uint64) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open event file: %w", err)
	}
	w, err := FromFile(f, gen)
	if err != nil {
		f.Close()
	}
	return w, err
}

// FromFile goes on with an event file that is open already (inherited over an
// exec or a switch_root, where its path may mean another file). The file must
// be open for reading and appending; the Writer owns it from then on.
func FromFile(f *os.File, gen uint64) (*Writer, error) {
	w := &Writer{gen: gen, clock: Boottime, file: f}
	last, torn, err := tail(f)
	if err != nil {
		return nil, fmt.Errorf("read the end of %s: %w", f.Name(), err)
	}
	w.seq = last
	if torn {
		// A record whose writer died halfway becomes a line of its own.
		if _, err := f.Write([]byte("\n")); err != nil {
			return nil, fmt.Errorf("mend %s: %w", f.Name(), err)
		}
	}
	return w, nil
}

// Append writes e. It fills in Seq, and Gen and At where they are zero. When
// it fails, the record is not (wholly) in the file and later ones may be.
func (w *Writer) Append(e *Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Seq = w.seq + 1
	if e.Gen == 0 {
		e.Gen = w.gen
	}
	if e.At == 0 {
		e.At = w.clock()
	}
	line, err := encode(e)
	if err != nil {
		return err
	}
	n, err := w.file.Write(line)
	if n > 0 && n < len(line) {
		// The rest in a second write could be torn apart by another writer's
		// record: end the piece, and write the record whole.
		if _, err = w.file.Write(append([]byte("\n"), line...)); err != nil {
			return fmt.Errorf("append event %d: %w", e.Seq, err)
		}
	}
	if err != nil && n < len(line) {
		return fmt.Errorf("append event %d: %w", e.Seq, err)
	}
	w.seq = e.Seq
	return nil
}

// Size is how long the file is, in bytes.
func (w *Writer) Size() (int64, error) {
	i, err := w.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("size of the event file: %w", err)
	}
	return i.Size(), nil
}

// Trim gives back the memory of the bytes from one offset to another, which
// then read as zeros; offsets stay what they are, so that other writers and
// readers go on undisturbed. A record that is cut is lost, and readers skip
// the rest of it.
func (w *Writer) Trim(from, to int64) error {
	if to <= from {
		return nil
	}
	err := unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	if err != nil {
		return fmt.Errorf("trim the event file: fallocate: %w", err)
	}
	return nil
}

// File returns the open file, to hand it on; the Writer still owns it.
func (w *Writer) File() *os.File { return w.file }

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// encode marshals e into one line, shortening texts that make it too long.
func encode(e *Event) ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("append event of kind %s: %w", e.Kind, err)
	}
	if len(line) >= MaxLine {
		short := *e
		short.Text, short.Reason, short.Waiting = clip(e.Text, 4096), clip(e.Reason, 4096), clip(e.Waiting, 4096)
		if e.Error != nil {
			x := *e.Error
			x.Text = clip(x.Text, 4096)
			short.Error = &x
		}
		if line, err = json.Marshal(&short); err != nil {
			return nil, fmt.Errorf("append event of kind %s: %w", e.Kind, err)
		}
		if len(line) >= MaxLine {
			return nil, fmt.Errorf("append event of kind %s (%s): %d bytes, and a record has at most %d", e.Kind, e.Unit, len(line), MaxLine)
		}
	}
	return append(line, '\n'), nil
}

// tail returns the number of the last whole record and whether bytes of a
// torn one follow it.
func tail(f *os.File) (seq uint64, torn bool, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return 0, false, err
	}
	// The last records lie within the last few lines; torn and foreign lines
	// may hide them, so that the window is two records long.
	from := max(0, size-2*MaxLine)
	buf := make([]byte, size-from)
	if _, err := f.ReadAt(buf, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	torn = buf[len(buf)-1] != '\n'
	for _, line := range bytes.Split(buf, []byte("\n")) {
		var e struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(line, &e) == nil && e.Seq > seq {
			seq = e.Seq
		}
	}
	return seq, torn, nil
}

// clip shortens s to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-3] + "..."
}
