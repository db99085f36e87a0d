package kmip

import (
	"crypto/tls"
	"net"
)

// Where a ServerHello says which version the server chose: after the headers of record and handshake message (RFC 5246,
// sections 6.2.1, 7.4 and 7.4.1.3).
const (
	recordHandshake = 22
	serverHello     = 2
	helloLength     = 11
)

const tooOldHint = "have the server speak TLS 1.2 or 1.3"

// helloConn remembers how the server's first message begins: crypto/tls has no type for a server that chose a version
// which was not offered.
type helloConn struct {
	net.Conn
	first []byte // at most helloLength bytes; the handshake's goroutine alone uses it
}

func (h *helloConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if want := helloLength - len(h.first); want > 0 && n > 0 {
		h.first = append(h.first, p[:min(n, want)]...)
	}
	return n, err
}

// old names the version that the server chose if it is below 1.2; else it is empty.
func (h *helloConn) old() string {
	if len(h.first) < helloLength || h.first[0] != recordHandshake || h.first[5] != serverHello {
		return ""
	}
	if version := uint16(h.first[9])<<8 | uint16(h.first[10]); version < tls.VersionTLS12 {
		return tls.VersionName(version)
	}
	return ""
}
