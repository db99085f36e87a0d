package iscsi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// pdu is one protocol data unit: its basic header segment and its data, without padding and digests.
type pdu struct {
	header [headerSize]byte
	data   []byte
}

// digests says which checks protect the PDUs of a connection (RFC 7143, 13.1); none during a login.
type digests struct{ header, data bool }

// ProtocolError says that a target sent what the protocol does not allow, or what no sane target sends.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "not as the protocol has it: " + e.Reason }

// Code is the stable code of this error.
func (*ProtocolError) Code() string { return "ISCSI-PROTOCOL" }

// Hint says what to do.
func (*ProtocolError) Hint() string {
	return "look whether an iSCSI target of a supported version listens there; a trace shows its bytes: tcpdump -w FILE port 3260"
}

func protocol(format string, args ...any) error {
	return &ProtocolError{Reason: fmt.Sprintf(format, args...)}
}

func (p *pdu) opcode() byte           { return p.header[0] & opMask }
func (p *pdu) flags() byte            { return p.header[1] }
func (p *pdu) u16(at int) uint16      { return binary.BigEndian.Uint16(p.header[at:]) }
func (p *pdu) u32(at int) uint32      { return binary.BigEndian.Uint32(p.header[at:]) }
func (p *pdu) put32(at int, v uint32) { binary.BigEndian.PutUint32(p.header[at:], v) }

// setData sets the data and its length in the header (DataSegmentLength, bytes 5 to 7).
func (p *pdu) setData(b []byte) {
	p.data = b
	p.header[5], p.header[6], p.header[7] = byte(len(b)>>16), byte(len(b)>>8), byte(len(b))
}

// dataLength is what the header says.
func (p *pdu) dataLength() int {
	return int(p.header[5])<<16 | int(p.header[6])<<8 | int(p.header[7])
}

// padded rounds a length up to a whole word (RFC 7143, 11.1).
func padded(n int) int { return (n + 3) &^ 3 }

var errDigest = errors.New("a digest does not match: bytes were changed on the way")

// castagnoli is CRC32C's table; digests stand in the byte order of the wire (RFC 7143, 13.1, its example).
func castagnoli(b ...[]byte) [4]byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := uint32(0)
	for _, part := range b {
		sum = crc32.Update(sum, table, part)
	}
	var out [4]byte
	binary.LittleEndian.PutUint32(out[:], sum)
	return out
}

// encode gives the bytes of p as they go over the wire.
func (p *pdu) encode(d digests) []byte {
	b := append(make([]byte, 0, headerSize+padded(len(p.data))+8), p.header[:]...)
	if d.header {
		sum := castagnoli(p.header[:])
		b = append(b, sum[:]...)
	}
	if len(p.data) == 0 {
		return b
	}
	from := len(b)
	b = append(b, p.data...)
	b = append(b, make([]byte, padded(len(p.data))-len(p.data))...)
	if d.data {
		sum := castagnoli(b[from:])
		b = append(b, sum[:]...)
	}
	return b
}

// readPDU reads one PDU of at most limit bytes of data. Additional header segments are read and left out. The error
// is that of r, a *ProtocolError, or errDigest; io.EOF only before the first byte.
func readPDU(r io.Reader, limit int, d digests) (*pdu, error) {
	p := &pdu{}
	if _, err := io.ReadFull(r, p.header[:]); err != nil {
		return nil, err
	}
	if !fromTarget(p.header[0]) {
		return nil, protocol("this is no message of an iSCSI target: %q", p.header[:16])
	}
	head := p.header[:]
	if extra := int(p.header[4]) * 4; extra > 0 {
		rest := make([]byte, extra)
		if err := readRest(r, rest); err != nil {
			return nil, err
		}
		head = append(head[:headerSize:headerSize], rest...)
	}
	if d.header {
		if err := readDigest(r, head); err != nil {
			return nil, err
		}
	}
	n := p.dataLength()
	if n > limit {
		return nil, protocol("a PDU (opcode 0x%02x) of %d bytes of data, where %d are the most", p.opcode(), n, limit)
	}
	if n == 0 {
		return p, nil
	}
	data := make([]byte, padded(n))
	if err := readRest(r, data); err != nil {
		return nil, err
	}
	if d.data {
		if err := readDigest(r, data); err != nil {
			return nil, err
		}
	}
	p.data = data[:n]
	return p, nil
}

// fromTarget tells whether a PDU with this first byte may come from a target (RFC 7143, 11.2.1.2): what is none must not be
// waited for any longer, whatever length its bytes seem to have.
func fromTarget(b byte) bool {
	switch b & opMask {
	case opNopIn, 0x21, 0x22, opLoginReply, opTextReply, 0x25, opLogoutReply, 0x31, opAsync, opReject:
		return b&^opMask == 0
	}
	return false
}

func readDigest(r io.Reader, of []byte) error {
	var got [4]byte
	if err := readRest(r, got[:]); err != nil {
		return err
	}
	if got != castagnoli(of) {
		return errDigest
	}
	return nil
}

// readRest is ReadFull in the middle of a PDU, where an end is no good end.
func readRest(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
