// Package iscsitest is a scripted login server, for tests of what a real target cannot be told to do: redirections,
// malformed answers, slow bytes, texts in many parts, targets that do not prove themselves.
//
// It owns a target's side of a login and of SendTargets, written apart from the initiator's, so that both are not wrong
// in the same way. It serves no disk. It is no part of any program.
package iscsitest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Script is how a server behaves. The zero value lets everybody in and has no targets.
type Script struct {
	Redirect  string            // address of a redirection; temporary
	Permanent bool              // the redirection is for good
	Status    uint16            // class and detail of a refusal
	Silent    bool              // read, never answer
	CloseAt   int               // end the connection instead of the answer to request N, from 1
	Raw       []byte            // the answer to the first request, instead of a PDU
	HangUp    bool              // end the connection after Raw
	ByteEvery time.Duration     // one byte at a time
	Split     int               // bytes of login text in one PDU; the rest follows by the C bit
	CHAP      *CHAP             // nil: AuthMethod None
	Propose   string            // operational keys that the target proposes: "K=V\x00…", with T=0
	Extra     string            // keys beside its answers in the operational stage
	Replace   map[string]string // answers given instead of the sane one
	WrongISID bool
	Stage     byte // what it says its stage is, where it is not 0
	NoTSIH    bool

	Targets string // the answer to SendTargets
	Chunk   int    // bytes of it in one PDU (0: all)
	ByCBit  bool   // parts by the C bit, else by the transfer tag alone
	Ping    bool   // ask whether the initiator is there before the answer
	Endless bool   // the list never ends
}

// CHAP is how the target authenticates.
type CHAP struct {
	User, Secret             string
	MutualUser, MutualSecret string
	Algorithm                string // 5 to 8; "": the first of the initiator's
	Challenge                string // CHAP_C as it goes over the wire ("": sixteen bytes)
	NoProof                  bool   // leave the mutual answer out
	WrongProof               bool   // answer with another secret
	Reflect                  bool   // answer with the initiator's own response
}

// Server listens until Close.
type Server struct {
	listener net.Listener
	script   Script

	mu       sync.Mutex
	requests []Request // guarded by mu
	wg       sync.WaitGroup
}

// Request is one PDU that came.
type Request struct {
	Header [48]byte
	Text   string
}

// Start listens on an address ("127.0.0.1:0").
func Start(address string, s Script) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	srv := &Server{listener: l, script: s}
	srv.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			srv.wg.Go(func() {
				defer c.Close()
				_ = (&conversation{s: srv, script: s, conn: c}).serve() // what went wrong shows on the other side
			})
		}
	})
	return srv, nil
}

// Address is HOST:PORT.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close ends the server; conversations end when their other side does.
func (s *Server) Close() { s.listener.Close() }

// Requests returns what has come so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

type conversation struct {
	s      *Server
	script Script
	conn   net.Conn
	n      int
	statSN uint32
	crc    bool // header and data digests are on
	auth   auth
	told   bool // the target's proposals were made
}

func (c *conversation) serve() error {
	for {
		r, err := c.read()
		if err != nil {
			return err
		}
		c.n++
		switch {
		case c.script.Silent:
			continue
		case c.script.CloseAt == c.n:
			return nil
		case c.script.Raw != nil && c.n == 1:
			if _, err := c.conn.Write(c.script.Raw); err != nil {
				return err
			}
			if c.script.HangUp {
				return nil
			}
			continue
		}
		switch r.Header[0] & 0x3f {
		case 0x03:
			err = c.login(r)
		case 0x04:
			err = c.text(r)
		case 0x06:
			return nil
		case 0x00:
		default:
			err = fmt.Errorf("opcode %#x", r.Header[0])
		}
		if err != nil {
			return err
		}
	}
}

func (c *conversation) read() (Request, error) {
	var r Request
	if _, err := io.ReadFull(c.conn, r.Header[:]); err != nil {
		return r, err
	}
	if c.crc {
		if err := c.checkDigest(r.Header[:]); err != nil {
			return r, err
		}
	}
	n := int(r.Header[5])<<16 | int(r.Header[6])<<8 | int(r.Header[7])
	data := make([]byte, (n+3)/4*4)
	if _, err := io.ReadFull(c.conn, data); err != nil {
		return r, err
	}
	if c.crc && n > 0 {
		if err := c.checkDigest(data); err != nil {
			return r, err
		}
	}
	r.Text = string(data[:n])
	c.s.mu.Lock()
	c.s.requests = append(c.s.requests, r)
	c.s.mu.Unlock()
	return r, nil
}

func (c *conversation) checkDigest(of []byte) error {
	var sum [4]byte
	if _, err := io.ReadFull(c.conn, sum[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(sum[:]) != crc(of) {
		return fmt.Errorf("digest of %d bytes", len(of))
	}
	return nil
}

// write sends one PDU.
func (c *conversation) write(h [48]byte, data []byte) error {
	h[5], h[6], h[7] = byte(len(data)>>16), byte(len(data)>>8), byte(len(data))
	binary.BigEndian.PutUint32(h[24:], c.statSN)
	c.statSN++
	var b bytes.Buffer
	b.Write(h[:])
	if c.crc {
		b.Write(binary.LittleEndian.AppendUint32(nil, crc(h[:])))
	}
	if len(data) > 0 {
		body := append(append([]byte(nil), data...), make([]byte, (4-len(data)%4)%4)...)
		b.Write(body)
		if c.crc {
			b.Write(binary.LittleEndian.AppendUint32(nil, crc(body)))
		}
	}
	if c.script.ByteEvery == 0 {
		_, err := c.conn.Write(b.Bytes())
		return err
	}
	pace := time.NewTicker(c.script.ByteEvery)
	defer pace.Stop()
	for _, one := range b.Bytes() {
		if _, err := c.conn.Write([]byte{one}); err != nil {
			return err
		}
		<-pace.C
	}
	return nil
}

// text answers SendTargets, in parts.
func (c *conversation) text(r Request) error {
	if c.script.Ping {
		c.script.Ping = false
		var h [48]byte
		h[0], h[1] = 0x20, 0x80
		binary.BigEndian.PutUint32(h[16:], 0xffffffff)
		binary.BigEndian.PutUint32(h[20:], 77)
		if err := c.write(h, []byte("there?")); err != nil {
			return err
		}
		pong, err := c.read()
		if err != nil {
			return err
		}
		if pong.Header[0]&0x3f != 0 || binary.BigEndian.Uint32(pong.Header[20:]) != 77 || pong.Text != "there?" {
			return fmt.Errorf("a ping got the answer %x %q", pong.Header, pong.Text)
		}
	}
	tag := binary.BigEndian.Uint32(r.Header[20:])
	from := 0
	if tag != 0xffffffff {
		from = min(int(tag), len(c.script.Targets))
	} else if r.Text != "SendTargets=All\x00" {
		return fmt.Errorf("a text that asks for nothing: %q", r.Text)
	}
	all := c.script.Targets
	to := len(all)
	if c.script.Chunk > 0 {
		to = min(from+c.script.Chunk, to)
	}
	var h [48]byte
	h[0] = 0x24
	copy(h[16:20], r.Header[16:20])
	next := uint32(0xffffffff)
	part := all[from:to]
	switch {
	case c.script.Endless:
		next, part = 1, strings.Repeat("X-more=yes\x00", 500)
	case to < len(all):
		next = uint32(to)
	}
	if next == 0xffffffff {
		h[1] = 0x80
	} else if c.script.ByCBit {
		h[1] = 0x40
	}
	binary.BigEndian.PutUint32(h[20:], next)
	return c.write(h, []byte(part))
}
