package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reader reads events line by line. It is tolerant: lines that are no record
// or too long are counted and skipped, a torn tail is no error, and kinds and
// fields it does not know are kept and ignored. Memory is bounded by MaxLine.
type Reader struct {
	r       *bufio.Reader
	line    []byte
	tooLong bool
	skipped int
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next record; io.EOF at the end. After more was appended
// it may be called again: a line that was torn then continues.
func (r *Reader) Next() (Event, error) {
	for {
		part, err := r.r.ReadSlice('\n')
		if !r.tooLong {
			r.line = append(r.line, part...)
		}
		if len(r.line) > MaxLine {
			r.tooLong, r.line = true, r.line[:0]
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return Event{}, err
		}
		line, tooLong := r.line, r.tooLong
		r.line, r.tooLong = r.line[:0], false
		if tooLong {
			r.skipped++
			continue
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil || e.Kind == "" {
			r.skipped++
			continue
		}
		return e, nil
	}
}

// Skipped is how many lines were no record.
func (r *Reader) Skipped() int { return r.skipped }

// ReadAll returns all records.
func ReadAll(rd io.Reader) ([]Event, error) {
	r := NewReader(rd)
	var list []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
}

// ReadFile returns all records of the event file at path.
func ReadFile(path string) ([]Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	list, err := ReadAll(f)
	if err != nil {
		return list, fmt.Errorf("read events of %s: %w", path, err)
	}
	return list, nil
}
