package nvmeof

import (
	"encoding/binary"
	"fmt"
)

// Initialize Connection PDUs (NVMe TCP Transport 1.0, section 3.6.2.2 and 3.6.2.3).
const (
	pduICReq  = 0x00
	pduICResp = 0x01
	icLength  = 128

	digestHeader = 1 << 0
	digestData   = 1 << 1
)

// icReq asks a target for a connection with these digests.
func icReq(header, data bool) []byte {
	b := make([]byte, icLength)
	b[0], b[2] = pduICReq, icLength
	binary.LittleEndian.PutUint32(b[4:], icLength)
	if header {
		b[11] |= digestHeader
	}
	if data {
		b[11] |= digestData
	}
	return b
}

// icResp is what a target answers.
type icResp struct {
	header, data bool
	maxData      uint32
}

// parseICResp reads the answer; b may be of any length.
func parseICResp(b []byte) (icResp, error) {
	if len(b) < icLength {
		return icResp{}, fmt.Errorf("%d bytes, where an answer has %d", len(b), icLength)
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if b[0] != pduICResp || b[2] != icLength || length != icLength {
		return icResp{}, fmt.Errorf("PDU of type %#02x with %d and %d bytes, where an answer is %#02x with %d", b[0], b[2], length, pduICResp, icLength)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != 0 {
		return icResp{}, fmt.Errorf("version %d of the transport, where only 0 is known", v)
	}
	return icResp{header: b[11]&digestHeader != 0, data: b[11]&digestData != 0, maxData: binary.LittleEndian.Uint32(b[12:])}, nil
}
