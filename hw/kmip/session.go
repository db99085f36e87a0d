package kmip

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

// session is one connection to one server, used by one goroutine at a time.
type session struct {
	endpoint *endpoint
	address  string
	conn     net.Conn
	tls      tls.ConnectionState
	version  kmipgo.ProtocolVersion
	offered  []kmipgo.ProtocolVersion // what the server says it speaks, of what we do
	timeout  time.Duration
	limit    int  // requests in a message, for now
	accepted int  // requests in a message that the server is believed to take
	reused   bool // it waited idle before: an error may only mean that the server got tired of it
	onShrink func(limit int)
}

func (s *session) close() { _ = s.conn.Close() }

func (s *session) abort() { sever(s.conn) }

// sever closes a connection that is broken, without the words of farewell: crypto/tls waits 5 s for a peer that does not
// read them.
func sever(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

func versions() []kmipgo.ProtocolVersion {
	return []kmipgo.ProtocolVersion{kmipgo.V1_4, kmipgo.V1_3, kmipgo.V1_2, kmipgo.V1_1, kmipgo.V1_0}
}

// negotiate agrees on a version (KMIP 1.4, section 4.26) and is the first
// proof that the server takes our certificate: with TLS 1.3 a refusal arrives
// only here.
func (s *session) negotiate(ctx context.Context, header kmipgo.ProtocolVersion) error {
	s.version = header
	resp, err := roundTrip(ctx, s.conn, s.timeout, s.message(&payloads.DiscoverVersionsRequestPayload{ProtocolVersion: versions()}))
	if err != nil {
		return err
	}
	if len(resp.BatchItem) != 1 {
		return babble("%d items answer one request", len(resp.BatchItem))
	}
	item := &resp.BatchItem[0]
	if item.ResultStatus != kmipgo.ResultStatusSuccess {
		switch e := itemError(item); e.Code {
		case CodeDenied:
			e.Hint = "register this client on the server"
			return e
		case CodeUnsupported: // a server that does not know the question answers it in a version that it knows
			if slices.Contains(versions(), resp.Header.ProtocolVersion) {
				s.version = resp.Header.ProtocolVersion
				return nil
			}
			fallthrough
		default:
			return &Error{Code: CodeVersion, Cause: fmt.Errorf("the server takes no message of KMIP %s: %w", header, e.Cause), Hint: versionHint}
		}
	}
	found, ok := item.ResponsePayload.(*payloads.DiscoverVersionsResponsePayload)
	if !ok {
		return babble("no payload in the answer to DiscoverVersions")
	}
	for _, v := range versions() {
		if slices.Contains(found.ProtocolVersion, v) {
			s.offered = append(s.offered, v)
		}
	}
	if len(s.offered) == 0 {
		return &Error{Code: CodeVersion, Cause: fmt.Errorf("no KMIP version in common: 1.0 to 1.4 are offered, the server speaks %s", joinVersions(found.ProtocolVersion)), Hint: versionHint}
	}
	s.version = s.offered[0]
	return nil
}

const versionHint = "enable one of KMIP 1.0 to 1.4 on the server"

func joinVersions(vs []kmipgo.ProtocolVersion) string {
	if len(vs) == 0 {
		return "none of them"
	}
	var names []string
	for _, v := range vs {
		names = append(names, v.String())
	}
	return strings.Join(names, ", ")
}

// message has no time stamp: some servers refuse one that differs from their
// clock, and ours may not be set yet.
func (s *session) message(ops ...kmipgo.OperationPayload) *kmipgo.RequestMessage {
	m := &kmipgo.RequestMessage{Header: kmipgo.RequestHeader{
		ProtocolVersion:     s.version,
		MaximumResponseSize: maxMessage,
		BatchCount:          int32(len(ops)), //nolint:gosec // at most the batch size
	}}
	if len(ops) > 1 {
		m.Header.BatchErrorContinuationOption = kmipgo.BatchErrorContinuationOptionContinue
	}
	for i, op := range ops {
		item := kmipgo.RequestBatchItem{Operation: op.Operation(), RequestPayload: op}
		if len(ops) > 1 {
			item.UniqueBatchItemID = binary.BigEndian.AppendUint32(nil, uint32(i)) //nolint:gosec // as above
		}
		m.BatchItem = append(m.BatchItem, item)
	}
	return m
}

// call is one operation on its way to an answer.
type call struct {
	request kmipgo.OperationPayload
	answer  kmipgo.OperationPayload
	err     *Error
	done    bool
	// lost counts connections that ended while this call was alone on them.
	lost *int
}

func (c *call) finish(answer kmipgo.OperationPayload, err *Error) {
	c.answer, c.err, c.done = answer, err, true
}

// maxLost is how many connections one request may cost before it is blamed.
const maxLost = 2

// exchange gets every call done, in messages of at most limit calls. Where a
// server refuses a message of several calls or cuts it off, the limit shrinks
// for good, in the end to single calls; where one answer of several is
// nonsense, it shrinks until that one is found. An error means that the
// connection is dead; calls that are not done may be tried on another one: all
// operations sent here only read.
func (s *session) exchange(ctx context.Context, calls []*call) error {
	for {
		open := slices.DeleteFunc(slices.Clone(calls), func(c *call) bool { return c.done })
		if len(open) == 0 {
			return nil
		}
		batch := open[:min(len(open), s.limit)]
		if err := s.send(ctx, batch); err != nil {
			return err
		}
	}
}

// send does one message. It returns an error if the connection is dead; else
// it finished at least one call or shrank the limit.
func (s *session) send(ctx context.Context, batch []*call) error {
	ops := make([]kmipgo.OperationPayload, len(batch))
	for i, c := range batch {
		ops[i] = c.request
	}
	resp, err := roundTrip(ctx, s.conn, s.timeout, s.message(ops...))
	if bad, ok := errors.AsType[*undecodable](err); ok { // one bad item spoils the whole message: find it
		if len(batch) == 1 {
			batch[0].finish(nil, &Error{Code: CodeProtocol, Cause: bad, Hint: babbleHint})
			s.limit = s.accepted
			return nil
		}
		s.limit = max(1, len(batch)/4)
		return nil
	}
	if err != nil {
		if ctx.Err() == nil && !s.reused && !errors.Is(err, errMessage) {
			s.blame(batch, err)
		}
		return err
	}
	s.reused = false
	s.endpoint.lost.Store(0)
	return s.settle(batch, resp)
}

// blame: a server that hangs up at a message may do so because of it. Once is
// an accident, twice in a row is a habit.
func (s *session) blame(batch []*call, err error) {
	if len(batch) > 1 {
		if s.endpoint.lost.Add(1) >= maxLost {
			s.endpoint.lost.Store(0)
			s.shrink(len(batch))
		}
		return
	}
	c := batch[0]
	if c.lost == nil {
		return
	}
	if *c.lost++; *c.lost >= maxLost {
		e := classify(err, s.endpoint.id, time.Now())
		if e.Hint == "" {
			e.Hint = "look at the server's log for this request"
		}
		c.finish(nil, &Error{Code: e.Code, Cause: fmt.Errorf("%d connections ended at this request: %w", *c.lost, e.Cause), Hint: e.Hint, Retryable: true})
	}
}

// describe names the versions that were agreed.
func (s *session) describe() string {
	return tls.VersionName(s.tls.Version) + ", KMIP " + s.version.String()
}
