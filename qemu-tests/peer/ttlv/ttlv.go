// Package ttlv encodes and decodes TTLV, the encoding of KMIP, written from
// section 9.1.1 of the KMIP 1.4 specification alone: it shares no code with
// the library that the client under test is built on, and so none of its bugs.
//
// It owns items and their bytes, and knows no messages. It is for test servers.
package ttlv

import (
	"encoding/binary"
	"fmt"
)

// Type is the item type byte (section 9.1.1.2).
type Type byte

// Item types.
const (
	Structure   Type = 0x01
	Integer     Type = 0x02
	LongInteger Type = 0x03
	Enumeration Type = 0x05
	Boolean     Type = 0x06
	TextString  Type = 0x07
	ByteString  Type = 0x08
	DateTime    Type = 0x09
	Interval    Type = 0x0A
)

// Item is one decoded item. Value holds its bytes without padding; a
// structure has Items instead.
type Item struct {
	Tag   int
	Type  Type
	Value []byte
	Items []Item
}

// Struct encodes a structure of encoded items.
func Struct(tag int, items ...[]byte) []byte {
	var body []byte
	for _, i := range items {
		body = append(body, i...)
	}
	return encode(tag, Structure, body)
}

// Int encodes a 32-bit integer.
func Int(tag int, v int32) []byte {
	return encode(tag, Integer, binary.BigEndian.AppendUint32(nil, uint32(v)))
}

// Enum encodes an enumeration.
func Enum(tag int, v uint32) []byte {
	return encode(tag, Enumeration, binary.BigEndian.AppendUint32(nil, v))
}

// Text encodes a text string.
func Text(tag int, v string) []byte { return encode(tag, TextString, []byte(v)) }

// Bytes encodes a byte string.
func Bytes(tag int, v []byte) []byte { return encode(tag, ByteString, v) }

// Date encodes a date-time in seconds since 1970.
func Date(tag int, v int64) []byte {
	return encode(tag, DateTime, binary.BigEndian.AppendUint64(nil, uint64(v)))
}

// encode: the length is that of the value, the padding to 8 bytes is not part of it (section 9.1.1.3).
func encode(tag int, typ Type, value []byte) []byte {
	out := []byte{byte(tag >> 16), byte(tag >> 8), byte(tag), byte(typ)}
	out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
	out = append(out, value...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	return out
}

// maxDepth bounds the nesting of structures.
const maxDepth = 24

// Encode gives the bytes of an item again.
func (i Item) Encode() []byte {
	if i.Type != Structure {
		return encode(i.Tag, i.Type, i.Value)
	}
	var parts [][]byte
	for _, f := range i.Items {
		parts = append(parts, f.Encode())
	}
	return Struct(i.Tag, parts...)
}

// Decode reads the items that fill b.
func Decode(b []byte) ([]Item, error) { return decode(b, 0) }

func decode(b []byte, depth int) ([]Item, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("structures nest deeper than %d", maxDepth)
	}
	var items []Item
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("%d bytes where an item begins", len(b))
		}
		it := Item{Tag: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), Type: Type(b[3])}
		n := int(binary.BigEndian.Uint32(b[4:]))
		padded := (n + 7) &^ 7
		if n < 0 || padded > len(b)-8 {
			return nil, fmt.Errorf("item %06x is longer than what holds it", it.Tag)
		}
		value := b[8 : 8+n]
		if it.Type == Structure {
			var err error
			if it.Items, err = decode(value, depth+1); err != nil {
				return nil, err
			}
		} else {
			it.Value = value
		}
		items = append(items, it)
		b = b[8+padded:]
	}
	return items, nil
}

// Get gives the first item with a tag inside a structure.
func (i Item) Get(tag int) (Item, bool) {
	for _, c := range i.Items {
		if c.Tag == tag {
			return c, true
		}
	}
	return Item{}, false
}

// All gives every item with a tag inside a structure.
func (i Item) All(tag int) []Item {
	var out []Item
	for _, c := range i.Items {
		if c.Tag == tag {
			out = append(out, c)
		}
	}
	return out
}

// Number gives the first integer or enumeration with a tag, or 0.
func (i Item) Number(tag int) uint32 {
	if c, ok := i.Get(tag); ok && len(c.Value) == 4 {
		return binary.BigEndian.Uint32(c.Value)
	}
	return 0
}

// String gives the first text with a tag, or "".
func (i Item) String(tag int) string {
	c, _ := i.Get(tag)
	return string(c.Value)
}
