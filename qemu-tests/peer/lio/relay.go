package lio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// Relay passes iSCSI on, PDU by PDU, and can say in the target's name what LIO never says, or be cut at a command.
// No digests.
type Relay struct {
	Listen string `json:"listen"`
	To     string `json:"to"`
}

// relay is a running one.
type relay struct {
	to string

	mu    sync.Mutex
	conns map[*relayed]bool // guarded by mu
	cutAt byte              // the operation code of the SCSI command at which all connections are cut; 0: none; guarded by mu
	cut   bool              // nothing passes; guarded by mu
}

// relayed is one connection through it.
type relayed struct {
	out net.Conn // to the initiator

	mu     sync.Mutex
	status [12]byte // StatSN, ExpCmdSN and MaxCmdSN of the last status that was passed on; guarded by mu, as is writing to out
	spoken bool
}

func (r Relay) start(ctx context.Context) (*relay, error) {
	l, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	run := &relay{to: r.To, conns: map[*relayed]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go run.pass(c)
		}
	}()
	return run, nil
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	to, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer to.Close()
	one := &relayed{out: c}
	r.mu.Lock()
	if r.cut {
		r.mu.Unlock()
		return
	}
	r.conns[one] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, one)
		r.mu.Unlock()
	}()
	ended := make(chan struct{}, 2)
	go func() {
		r.requests(to, bufio.NewReader(c))
		ended <- struct{}{}
	}()
	go func() {
		one.answers(bufio.NewReader(to))
		ended <- struct{}{}
	}()
	<-ended
}

// requests passes on what the initiator says, up to the command at which it is cut.
func (r *relay) requests(to io.Writer, in io.Reader) {
	for {
		unit, err := readUnit(in)
		if err != nil {
			return
		}
		if unit[0]&0x3f == opCommand && r.cutsAt(unit[32]) {
			return
		}
		if _, err := to.Write(unit); err != nil {
			return
		}
	}
}

func (r *relay) cutsAt(operation byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.cutAt == 0 || operation != r.cutAt {
		return r.cut
	}
	r.cut = true
	for o := range r.conns {
		o.out.Close()
	}
	return true
}

// readUnit reads a PDU (RFC 7143, 11.2: a header of 48 bytes, more of it in words, data padded to words).
func readUnit(in io.Reader) ([]byte, error) {
	head := make([]byte, 48)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	data := int(head[5])<<16 | int(head[6])<<8 | int(head[7])
	unit := append(head, make([]byte, int(head[4])*4+(data+3)/4*4)...)
	_, err := io.ReadFull(in, unit[48:])
	return unit, err
}

// answers passes on what the target says.
func (o *relayed) answers(in io.Reader) {
	for {
		unit, err := readUnit(in)
		if err != nil {
			return
		}
		o.mu.Lock()
		if counts(unit) {
			copy(o.status[:], unit[24:36])
			o.spoken = true
		}
		_, err = o.out.Write(unit)
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

const (
	opCommand  = 0x01
	opDataIn   = 0x25
	opR2T      = 0x31
	opAsync    = 0x32
	asyncAsked = 1 // to log out
)

// counts tells whether a PDU has a StatSN of its own: it answers something, and is no part of data (RFC 7143, 11.7.4, 11.8.3
// and 11.19.1).
func counts(head []byte) bool {
	switch head[0] & 0x3f {
	case opR2T:
		return false
	case opDataIn:
		return head[1]&1 != 0 // it carries the status too
	}
	return binary.BigEndian.Uint32(head[16:]) != 0xffffffff
}

// change makes a fault of the relay's, or ends it.
func (r *relay) change(c Change) error {
	if c.Do == "ask-logout" {
		return r.askLogout()
	}
	operation := uint64(0)
	if c.Do == "cut-at" {
		var err error
		if operation, err = strconv.ParseUint(c.Value, 16, 8); err != nil {
			return fmt.Errorf("lio: cut at %q: not the operation code of a SCSI command, in hexadecimal digits", c.Value)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutAt, r.cut = byte(operation), false
	return nil
}

// askLogout sends every initiator an asynchronous message that asks it to log out (RFC 7143, 11.9). The sequence numbers
// are those of what was said before, so that the target's own go on behind it.
func (r *relay) askLogout() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := 0
	for o := range r.conns {
		o.mu.Lock()
		if o.spoken {
			var h [48]byte
			h[0], h[1] = opAsync, 0x80
			binary.BigEndian.PutUint32(h[16:], 0xffffffff)
			copy(h[24:36], o.status[:])
			h[36] = asyncAsked
			binary.BigEndian.PutUint16(h[42:], 10) // seconds
			if _, err := o.out.Write(h[:]); err == nil {
				asked++
			}
		}
		o.mu.Unlock()
	}
	if asked == 0 {
		return errors.New("lio: nobody is there to ask to log out")
	}
	return nil
}
