package keyserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"initd/qemu-tests/peer/ttlv"
)

// speaker answers KMIP on one connection, from bytes.
type speaker struct {
	store    *store
	rules    Behaviour
	line     *line
	answered int
}

// maxRequest bounds a request, in bytes.
const maxRequest = 1 << 20

func (s *speaker) serve(conn net.Conn) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[4:])
		if n > maxRequest {
			return
		}
		msg := make([]byte, 8+int(n))
		copy(msg, head[:])
		if _, err := io.ReadFull(conn, msg[8:]); err != nil {
			return
		}
		reply, err := s.answer(msg)
		if err != nil {
			s.store.emit(Event{Event: "kmip", Op: "error", Server: s.store.server, Reason: err.Error()})
			return
		}
		if !s.line.say(reply) {
			return
		}
		if s.answered++; s.rules.HangUpAfter > 0 && s.answered >= s.rules.HangUpAfter {
			return
		}
	}
}

// answer makes a response message (KMIP 1.4, section 7.2). An error closes the connection.
func (s *speaker) answer(msg []byte) ([]byte, error) {
	top, err := ttlv.Decode(msg)
	if err != nil {
		return nil, err
	}
	if len(top) != 1 || top[0].Tag != ttlv.RequestMessage {
		return nil, errors.New("not a request message")
	}
	header, _ := top[0].Get(ttlv.RequestHeader)
	version, _ := header.Get(ttlv.ProtocolVersion)
	major, minor := version.Number(ttlv.ProtocolVersionMajor), version.Number(ttlv.ProtocolVersionMinor)
	items := top[0].All(ttlv.BatchItem)
	s.store.emit(Event{Event: "kmip", Op: "message", Server: s.store.server, Items: len(items)})
	if !s.speaks(major, minor) {
		if s.rules.HangUpOnOldHeader {
			return nil, fmt.Errorf("KMIP %d.%d is not spoken here", major, minor)
		}
		return s.message(major, minor, refusal(0, nil, ttlv.ReasonInvalidMessage, "protocol version is not supported")), nil
	}
	if limit := s.rules.BatchLimit; limit > 0 && len(items) > limit {
		switch s.rules.BatchAnswer {
		case "hang-up":
			return nil, errors.New("batch is too large")
		case "too-large":
		default:
			return s.message(major, minor, refusal(0, nil, ttlv.ReasonInvalidMessage, "batch is too large")), nil
		}
	}
	var replies [][]byte
	for i, item := range items {
		if limit := s.rules.BatchLimit; limit > 0 && i >= limit {
			replies = append(replies, refusal(item.Number(ttlv.Operation), s.id(item), ttlv.ReasonResponseTooLarge, ""))
			continue
		}
		reply, failed, err := s.item(item)
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
		if failed && s.rules.StopOnError {
			break
		}
	}
	return s.message(major, minor, replies...), nil
}

func (s *speaker) id(item ttlv.Item) []byte {
	if s.rules.NoBatchIDs {
		return nil
	}
	id, _ := item.Get(ttlv.UniqueBatchItemID)
	return id.Value
}

func (s *speaker) speaks(major, minor uint32) bool {
	return slices.Contains(s.versions(), fmt.Sprintf("%d.%d", major, minor))
}

func (s *speaker) versions() []string {
	if len(s.rules.Versions) > 0 {
		return s.rules.Versions
	}
	return []string{"1.4", "1.3", "1.2", "1.1", "1.0"}
}

func (s *speaker) message(major, minor uint32, items ...[]byte) []byte {
	header := ttlv.Struct(ttlv.ResponseHeader,
		ttlv.Struct(ttlv.ProtocolVersion, ttlv.Int(ttlv.ProtocolVersionMajor, int32(major)), ttlv.Int(ttlv.ProtocolVersionMinor, int32(minor))),
		ttlv.Date(ttlv.TimeStamp, time.Now().Unix()),
		ttlv.Int(ttlv.BatchCount, int32(len(items))))
	return ttlv.Struct(ttlv.ResponseMessage, append([][]byte{header}, items...)...)
}

// item answers one batch item.
func (s *speaker) item(item ttlv.Item) (reply []byte, failed bool, err error) {
	op := item.Number(ttlv.Operation)
	payload, _ := item.Get(ttlv.RequestPayload)
	body, err := s.operate(op, payload)
	switch {
	case errors.Is(err, errHangUp):
		return nil, false, err
	case err != nil:
		return refusal(op, s.id(item), reasonOf(err), err.Error()), true, nil
	}
	parts := [][]byte{ttlv.Enum(ttlv.Operation, op)}
	if id := s.id(item); len(id) > 0 {
		parts = append(parts, ttlv.Bytes(ttlv.UniqueBatchItemID, id))
	}
	parts = append(parts, ttlv.Enum(ttlv.ResultStatus, ttlv.StatusSuccess), ttlv.Struct(ttlv.ResponsePayload, body...))
	return ttlv.Struct(ttlv.BatchItem, parts...), false, nil
}

func refusal(op uint32, id []byte, reason uint32, text string) []byte {
	var parts [][]byte
	if op != 0 {
		parts = append(parts, ttlv.Enum(ttlv.Operation, op))
	}
	if len(id) > 0 {
		parts = append(parts, ttlv.Bytes(ttlv.UniqueBatchItemID, id))
	}
	parts = append(parts, ttlv.Enum(ttlv.ResultStatus, ttlv.StatusFailed), ttlv.Enum(ttlv.ResultReason, reason))
	if text != "" {
		parts = append(parts, ttlv.Text(ttlv.ResultMessage, text))
	}
	return ttlv.Struct(ttlv.BatchItem, parts...)
}

func reasonOf(err error) uint32 {
	switch {
	case errors.Is(err, errNotFound):
		return ttlv.ReasonItemNotFound
	case errors.Is(err, errDenied):
		return ttlv.ReasonPermissionDenied
	case errors.Is(err, errInvalidField):
		return ttlv.ReasonInvalidField
	case errors.Is(err, errUnsupported):
		return ttlv.ReasonOperationNotSupported
	}
	return ttlv.ReasonGeneralFailure
}
