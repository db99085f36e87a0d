package keyserver

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"initd/qemu-tests/peer/ttlv"
)

// Faults are what a server does wrong on its connections. The zero value is nothing.
type Faults struct {
	// Refuse says how it refuses every client: RefuseAlert, RefuseHangUp or RefuseAnswer.
	Refuse string `json:"refuse,omitempty"`
	// BareHello is "1.0" or "1.1": the handshake begins with a hand-written ServerHello of that version, as a server answers
	// that has never heard of a newer one, and ends there.
	BareHello string `json:"bareHello,omitempty"`

	// From is the first message of a connection, counted from 1, that the faults below concern; 0 means 2, the first one
	// after the agreement on a version.
	From int `json:"from,omitempty"`
	// Times is how many answers are spoilt in all; 0 means all of them.
	Times int `json:"times,omitempty"`
	// Reset: the connection is reset after half of the answer.
	Reset bool `json:"reset,omitempty"`
	// Garbage is said instead of an answer: GarbageText, GarbageLength, GarbageItems or GarbageNesting.
	Garbage string `json:"garbage,omitempty"`
	// Drip is how many seconds pass between two bytes of an answer.
	Drip float64 `json:"drip,omitempty"`
	// Muddle says how items of an answer are mixed up: MuddlePayloads, MuddleOrder or MuddleTwice.
	Muddle string `json:"muddle,omitempty"`
}

// Ways to refuse a client.
const (
	RefuseAlert  = "alert"   // TLS ends with an alert
	RefuseHangUp = "hang-up" // TLS is up, and the connection is closed without a word
	RefuseAnswer = "answer"  // each request is answered by Authentication Not Successful
)

// Kinds of garbage.
const (
	GarbageText    = "text"    // a web server's words
	GarbageLength  = "length"  // a header that announces 4 GiB
	GarbageItems   = "items"   // a sound frame around items that are none
	GarbageNesting = "nesting" // structures in structures, thousands deep
)

// Ways to mix items up.
const (
	MuddlePayloads = "payloads" // neighbours have each other's payloads, under their own ids
	MuddleOrder    = "order"    // items come last first, without ids
	MuddleTwice    = "twice"    // the first item comes twice, the second one not at all
)

func (f Faults) check() error {
	for _, c := range []struct {
		what, have string
		known      []string
	}{
		{"refuse", f.Refuse, []string{RefuseAlert, RefuseHangUp, RefuseAnswer}},
		{"bareHello", f.BareHello, []string{"1.0", "1.1"}},
		{"garbage", f.Garbage, []string{GarbageText, GarbageLength, GarbageItems, GarbageNesting}},
		{"muddle", f.Muddle, []string{MuddlePayloads, MuddleOrder, MuddleTwice}},
	} {
		if c.have != "" && !slices.Contains(c.known, c.have) {
			return fmt.Errorf("%s %q: want one of %q", c.what, c.have, c.known)
		}
	}
	return nil
}

func tlsVersion(name string) (uint16, error) {
	versions := map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12}
	if v, ok := versions[name]; ok {
		return v, nil
	}
	return 0, fmt.Errorf("TLS %q: want 1.0, 1.1 or 1.2", name)
}

// line is the way of answers to one client; it is where they are spoilt.
type line struct {
	Faults
	server  *Server
	conn    net.Conn // TLS
	raw     net.Conn // below it
	message int
	spoilt  *atomic.Int64 // of the server
}

func (s *Server) newLine(conn, raw net.Conn) *line {
	return &line{Faults: s.config.Faults, server: s, conn: conn, raw: raw, spoilt: &s.spoilt}
}

// say sends an answer; false means that the connection is over.
func (l *line) say(answer []byte) bool {
	l.message++
	if l.Refuse == RefuseAnswer {
		answer = refuseAll(answer)
	}
	if l.faulty() {
		return l.spoil(answer)
	}
	_, err := l.conn.Write(answer)
	return err == nil
}

func (l *line) faulty() bool {
	from := l.From
	if from == 0 {
		from = 2
	}
	if l.message < from || !l.Reset && l.Garbage == "" && l.Drip == 0 && l.Muddle == "" {
		return false
	}
	return l.Times == 0 || l.spoilt.Add(1) <= int64(l.Times)
}

func (l *line) spoil(answer []byte) bool {
	if l.Muddle != "" {
		answer = muddle(answer, l.Muddle)
	}
	if l.Garbage != "" {
		answer = garbage(l.Garbage)
	}
	if l.Drip > 0 {
		return l.drip(answer)
	}
	if !l.Reset {
		_, err := l.conn.Write(answer)
		return err == nil
	}
	_, _ = l.conn.Write(answer[:len(answer)/2]) // the client may be gone already
	if tcp, ok := l.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a close is a reset then
	}
	_ = l.raw.Close()
	return false
}

// drip sends an answer byte by byte.
func (l *line) drip(answer []byte) bool {
	tick := time.NewTicker(seconds(l.Drip))
	defer tick.Stop()
	for i := range answer {
		if _, err := l.conn.Write(answer[i : i+1]); err != nil {
			return false
		}
		select {
		case <-tick.C:
		case <-l.server.ctx.Done():
			return false
		}
	}
	return true
}

func garbage(kind string) []byte {
	frame := func(body []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0x42, 0, 0x7B, 1}, uint32(len(body))), body...)
	}
	switch kind {
	case GarbageLength:
		return []byte{0x42, 0, 0x7B, 1, 0xFF, 0xFF, 0xFF, 0xF8}
	case GarbageItems:
		return frame([]byte{0x42, 0, 0x7A, 2, 0, 0, 0, 0, 0x42, 0, 0x0F, 0xEE, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	case GarbageNesting:
		body := []byte{}
		for range 4000 {
			body = frame(body)
		}
		return body
	}
	return []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")
}

// refuseAll turns every item of an answer into a refusal (KMIP 1.4, section 11: Authentication Not Successful).
func refuseAll(answer []byte) []byte {
	return remake(answer, func(items []ttlv.Item) []ttlv.Item {
		for i, item := range items {
			id, _ := item.Get(ttlv.UniqueBatchItemID)
			again, err := ttlv.Decode(refusal(item.Number(ttlv.Operation), id.Value, ttlv.ReasonAuthentication, "this client is not known here"))
			if err == nil {
				items[i] = again[0]
			}
		}
		return items
	})
}

func muddle(answer []byte, how string) []byte {
	return remake(answer, func(items []ttlv.Item) []ttlv.Item {
		if len(items) < 2 {
			return items
		}
		switch how {
		case MuddlePayloads:
			for i := 0; i+1 < len(items); i += 2 {
				a, b := items[i].Items, items[i+1].Items
				if x, y := payload(a), payload(b); x >= 0 && y >= 0 {
					a[x], b[y] = b[y], a[x]
				}
			}
		case MuddleOrder:
			slices.Reverse(items)
			for i := range items {
				items[i].Items = slices.DeleteFunc(items[i].Items, func(f ttlv.Item) bool { return f.Tag == ttlv.UniqueBatchItemID })
			}
		case MuddleTwice:
			items[1] = items[0]
		}
		return items
	})
}

func payload(fields []ttlv.Item) int {
	return slices.IndexFunc(fields, func(f ttlv.Item) bool { return f.Tag == ttlv.ResponsePayload })
}

// remake changes the batch items of an answer.
func remake(answer []byte, change func([]ttlv.Item) []ttlv.Item) []byte {
	top, err := ttlv.Decode(answer)
	if err != nil || len(top) != 1 {
		return answer
	}
	var head, items []ttlv.Item
	for _, i := range top[0].Items {
		if i.Tag == ttlv.BatchItem {
			items = append(items, i)
		} else {
			head = append(head, i)
		}
	}
	top[0].Items = append(head, change(items)...)
	return top[0].Encode()
}

// sayHello answers a ClientHello by a ServerHello of an old version (RFC 2246, section 7.4.1.3), and nothing else.
func (s *Server) sayHello(raw net.Conn) {
	hello := make([]byte, 1024)
	if _, err := raw.Read(hello); err != nil {
		return
	}
	minor := byte(1)
	if s.config.BareHello == "1.1" {
		minor = 2
	}
	body := append([]byte{3, minor}, make([]byte, 32)...) // version, random
	body = append(body, 0, 0xC0, 0x13, 0)                 // no session, ECDHE-RSA-AES128-SHA, no compression
	message := append([]byte{2, 0, 0, byte(len(body))}, body...)
	record := append([]byte{22, 3, minor, 0, byte(len(message))}, message...)
	if _, err := raw.Write(record); err == nil {
		_, _ = raw.Read(hello) // the client's alert
	}
}
