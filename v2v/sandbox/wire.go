package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"initd/v2v/image"
)

// op is a question. One record of the socket is one message: a header of fixed size and a text.
type op uint8

const (
	opOpen    op = iota + 1 // text: request. The answer is a description in the slot.
	opStream                // the same for a source that comes once
	opCall                  // text: request. The answer is in the slot.
	opRead                  // off, n: guest data into the slot
	opExtents               // off: extents into the slot, as many as fit
	opNext                  // the stream's next piece into the slot; n is its length, off its offset
	opSibling               // from the child, text: a name. The answer carries a descriptor; n is its size.
)

const (
	headerSize  = 32
	maxText     = 16 << 10
	maxMessage  = headerSize + maxText
	extentSize  = 40
	extentsPage = SlotSize / extentSize
)

// message is one record. Slot is the number of the question too: at most one is in flight on each.
type message struct {
	op     op
	failed bool // text is a fault
	slot   uint32
	off, n int64
	text   []byte
}

func (m message) encode() ([]byte, error) {
	if len(m.text) > maxText {
		return nil, fmt.Errorf("a message of %d bytes is too long", len(m.text))
	}
	b := make([]byte, headerSize, headerSize+len(m.text))
	b[0] = byte(m.op)
	if m.failed {
		b[1] = 1
	}
	binary.LittleEndian.PutUint32(b[4:], m.slot)
	binary.LittleEndian.PutUint64(b[8:], uint64(m.off))
	binary.LittleEndian.PutUint64(b[16:], uint64(m.n))
	return append(b, m.text...), nil
}

var errMessage = errors.New("not a message")

func decode(b []byte) (message, error) {
	if len(b) < headerSize || b[1] > 1 {
		return message{}, errMessage
	}
	return message{
		op:     op(b[0]),
		failed: b[1] == 1,
		slot:   binary.LittleEndian.Uint32(b[4:]),
		off:    int64(binary.LittleEndian.Uint64(b[8:])),
		n:      int64(binary.LittleEndian.Uint64(b[16:])),
		text:   b[headerSize:],
	}, nil
}

// request is the text of opOpen, opStream and opCall.
type request struct {
	Call   string            `json:",omitempty"`
	Input  []byte            `json:",omitempty"`
	Name   string            `json:",omitempty"`
	Size   int64             `json:",omitempty"`
	Format string            `json:",omitempty"`
	Open   image.OpenOptions `json:",omitzero"`
}

// description is the answer to opOpen and opStream.
type description struct {
	Size int64
	Info image.Info
}

// fault is an error on its way. Kinds are few: those that a caller branches on.
type fault struct {
	Kind  string // image, eof, or other
	Image *image.Error
	Text  string
}

func encodeFault(err error) []byte {
	f := fault{Kind: "other", Text: err.Error()}
	if e, ok := errors.AsType[*image.Error](err); ok {
		f = fault{Kind: "image", Image: e, Text: f.Text}
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		f.Kind = "unexpected-eof"
	} else if errors.Is(err, io.EOF) {
		f.Kind = "eof"
	}
	b, err := json.Marshal(f)
	if err != nil || len(b) > maxText {
		b, _ = json.Marshal(fault{Kind: "other", Text: "an error too long to be told"})
	}
	return b
}

// decodeFault gives the error back as it was, as far as the child can be believed: it may say anything, so it says it in plain text.
func decodeFault(text []byte, name string) error {
	var f fault
	if err := json.Unmarshal(text, &f); err != nil {
		return protocol(name, "an error that cannot be read")
	}
	switch {
	case f.Kind == "eof":
		return io.EOF
	case f.Kind == "unexpected-eof":
		return endedEarly(Clean(f.Text))
	case f.Kind == "image" && f.Image != nil && f.Image.Fault >= image.Refused && f.Image.Fault <= image.Undeclared:
		e := *f.Image
		e.Code, e.Image, e.Format, e.What, e.Do = Clean(e.Code), Clean(e.Image), Clean(e.Format), Clean(e.What), Clean(e.Do)
		return &e
	}
	return errors.New(Clean(f.Text))
}

// endedEarly is an io.ErrUnexpectedEOF that says of what.
type endedEarly string

func (e endedEarly) Error() string { return string(e) }
func (e endedEarly) Unwrap() error { return io.ErrUnexpectedEOF }

// Clean makes a text fit for a terminal and a log: one line, nothing that moves a cursor, bounded.
func Clean(s string) string {
	const most = 2000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func putExtent(b []byte, e image.Extent) {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(e.Offset))
	le.PutUint64(b[8:], uint64(e.Length))
	le.PutUint64(b[16:], uint64(e.Place))
	le.PutUint32(b[24:], uint32(e.File))
	b[28] = byte(e.Kind)
	b[29] = 0
	if e.Compressed {
		b[29] |= 1
	}
	if e.Unwritten {
		b[29] |= 2
	}
}

func getExtent(b []byte) image.Extent {
	le := binary.LittleEndian
	return image.Extent{
		Offset:     int64(le.Uint64(b)),
		Length:     int64(le.Uint64(b[8:])),
		Place:      int64(le.Uint64(b[16:])),
		File:       int(le.Uint32(b[24:])),
		Kind:       image.Kind(b[28]),
		Compressed: b[29]&1 != 0,
		Unwritten:  b[29]&2 != 0,
	}
}
