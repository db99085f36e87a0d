package kmip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/ttlv"
)

const (
	// maxMessage bounds an answer, in bytes.
	maxMessage = 1 << 20
	// maxDepth bounds the nesting of structures; a Get answer has 7 levels (KMIP 1.4, section 7.2).
	maxDepth = 24

	tagResponseMessage = 0x42007B // KMIP 1.4, section 9.1.3.1
)

// errMessage is in the chain of every complaint about an answer's bytes.
var errMessage = errors.New("the answer is not KMIP")

// roundTrip sends one message and reads one answer. After any error but
// errMessage the connection is of no use. The bytes read are wiped; what was
// decoded from them is the caller's to wipe.
func roundTrip(ctx context.Context, conn net.Conn, timeout time.Duration, req *kmipgo.RequestMessage) (*kmipgo.ResponseMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answer := &counted{Reader: conn}
	resp, err := func() (*kmipgo.ResponseMessage, error) {
		if _, err := conn.Write(ttlv.MarshalTTLV(req)); err != nil {
			return nil, err
		}
		body, err := readMessage(answer)
		if err != nil {
			return nil, err
		}
		defer clear(body)
		return decodeMessage(body)
	}()
	if !stop() { // the deadline is set, or about to be: nothing may use this connection again
		if err == nil {
			return resp, nil
		}
		sever(conn)
		if caller.Err() == nil {
			return nil, tooSlow(timeout, answer.n)
		}
		return nil, fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return resp, err
}

// tooSlow is a request that was not answered in time, however many bytes trickled in.
func tooSlow(limit time.Duration, n int) *Error {
	e := &Error{Code: CodeTimeout, Cause: fmt.Errorf("no answer within %s", limit), Hint: "look at the server: it is overloaded or broken", Retryable: true}
	if n > 0 {
		e.Cause = fmt.Errorf("only %d bytes of an answer came within %s", n, limit)
	}
	return e
}

// counted counts what is read, in bytes.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// babble is an answer that is no KMIP message.
func babble(format string, args ...any) *Error {
	return &Error{Code: CodeProtocol, Cause: fmt.Errorf("%w: "+format, append([]any{errMessage}, args...)...), Hint: babbleHint}
}

const babbleHint = "check the port, and look at the server: it is another program, or broken"

// readMessage reads one TTLV item with its header. It trusts the length only
// as far as maxMessage, and checks the tag before it reads on: what is no KMIP
// at all is noticed after 8 bytes.
func readMessage(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if tag := int(head[0])<<16 | int(head[1])<<8 | int(head[2]); tag != tagResponseMessage || head[3] != byte(ttlv.TypeStructure) {
		return nil, babble("it begins with % x", head[:4])
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > maxMessage-8 || n%8 != 0 {
		return nil, babble("length %d, at most %d in steps of 8 are taken", n, maxMessage-8)
	}
	msg := make([]byte, 8+int(n))
	copy(msg, head[:])
	if _, err := io.ReadFull(r, msg[8:]); err != nil {
		clear(msg)
		return nil, err
	}
	return msg, nil
}

// undecodable is a message whose frame was right and whose content was not:
// the connection still is in step.
type undecodable struct{ err error }

func (u *undecodable) Error() string   { return fmt.Sprintf("%v: %v", errMessage, u.err) }
func (u *undecodable) Unwrap() []error { return []error{errMessage, u.err} }

// decodeMessage decodes a whole message. kmip-go trusts lengths of fixed-size
// items and panics on wrong ones: they are checked first, and what still
// panics becomes an error.
func decodeMessage(msg []byte) (resp *kmipgo.ResponseMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The text of a panic may quote bytes: its type is all that is told.
			resp, err = nil, &undecodable{fmt.Errorf("decoder failed (%T)", p)}
		}
	}()
	if err := checkItems(msg, 0); err != nil {
		return nil, &undecodable{err}
	}
	resp = new(kmipgo.ResponseMessage)
	if err := ttlv.UnmarshalTTLV(msg, resp); err != nil {
		wipeResponse(resp)
		return nil, &undecodable{err}
	}
	return resp, nil
}

// checkItems walks TTLV items (KMIP 1.4, section 9.1.1) and checks what the
// decoder does not: fixed lengths, padding inside the buffer, depth.
func checkItems(b []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("structures nest deeper than %d", maxDepth)
	}
	for len(b) > 0 {
		if len(b) < 8 {
			return fmt.Errorf("%d bytes where an item begins", len(b))
		}
		tag := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		typ, n := ttlv.Type(b[3]), uint64(binary.BigEndian.Uint32(b[4:]))
		padded := (n + 7) &^ 7
		if padded > uint64(len(b)-8) {
			return fmt.Errorf("item %06x: %d bytes are announced, %d are there", tag, n, len(b)-8)
		}
		if err := checkLength(tag, typ, n); err != nil {
			return err
		}
		if typ == ttlv.TypeStructure {
			if err := checkItems(b[8:8+n], depth+1); err != nil {
				return err
			}
		}
		b = b[8+padded:]
	}
	return nil
}

func checkLength(tag int, typ ttlv.Type, n uint64) error {
	ok := true
	switch typ {
	case ttlv.TypeInteger, ttlv.TypeEnumeration, ttlv.TypeInterval:
		ok = n == 4
	case ttlv.TypeLongInteger, ttlv.TypeBoolean, ttlv.TypeDateTime:
		ok = n == 8
	case ttlv.TypeBigInteger, ttlv.TypeStructure:
		ok = n%8 == 0
	case ttlv.TypeTextString, ttlv.TypeByteString:
	default:
		return fmt.Errorf("item %06x: type %02x is not known", tag, byte(typ))
	}
	if !ok {
		return fmt.Errorf("item %06x: type %02x with %d bytes", tag, byte(typ), n)
	}
	return nil
}
