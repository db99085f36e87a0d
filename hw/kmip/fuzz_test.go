package kmip

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"
)

// parrot is a connection that takes every request and answers with its bytes,
// and then closes.
type parrot struct {
	net.Conn
	answers *bytes.Reader
}

func (p parrot) Read(b []byte) (int, error)       { return p.answers.Read(b) }
func (p parrot) Write(b []byte) (int, error)      { return len(b), nil }
func (p parrot) Close() error                     { return nil }
func (p parrot) SetDeadline(time.Time) error      { return nil }
func (p parrot) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (p parrot) SetReadDeadline(time.Time) error  { return nil }
func (p parrot) SetWriteDeadline(time.Time) error { return nil }

// FuzzAnswers plays arbitrary bytes as a server's answers to a whole
// conversation: nothing may panic, hang or grow without bound, and every job
// ends in a key, an error or a dead connection.
func FuzzAnswers(f *testing.F) {
	response := func(items ...kmipgo.ResponseBatchItem) []byte {
		return ttlv.MarshalTTLV(&kmipgo.ResponseMessage{
			Header:    kmipgo.ResponseHeader{ProtocolVersion: kmipgo.V1_4, TimeStamp: time.Unix(1, 0), BatchCount: int32(len(items))},
			BatchItem: items,
		})
	}
	ok := func(p kmipgo.OperationPayload) kmipgo.ResponseBatchItem {
		return kmipgo.ResponseBatchItem{Operation: p.Operation(), ResponsePayload: p}
	}
	batch := func(p ...kmipgo.OperationPayload) []byte {
		var items []kmipgo.ResponseBatchItem
		for i, p := range p {
			item := ok(p)
			item.UniqueBatchItemID = binary.BigEndian.AppendUint32(nil, uint32(i))
			items = append(items, item)
		}
		return response(items...)
	}
	versions := response(ok(&payloads.DiscoverVersionsResponsePayload{ProtocolVersion: []kmipgo.ProtocolVersion{kmipgo.V1_4}}))
	located := &payloads.LocateResponsePayload{UniqueIdentifier: []string{"id-1"}}
	described := &payloads.GetAttributesResponsePayload{UniqueIdentifier: "id-1", Attribute: []kmipgo.Attribute{
		{AttributeName: kmipgo.AttributeNameName, AttributeValue: kmipgo.Name{NameValue: "a", NameType: kmipgo.NameTypeUninterpretedTextString}},
		{AttributeName: kmipgo.AttributeNameState, AttributeValue: kmipgo.StateActive},
		{AttributeName: "x-Serial", AttributeValue: "S1"},
	}}
	material := []byte("key")
	get := &payloads.GetResponsePayload{ObjectType: kmipgo.ObjectTypeSecretData, UniqueIdentifier: "id-1", Object: &kmipgo.SecretData{
		SecretDataType: kmipgo.SecretDataTypePassword,
		KeyBlock: kmipgo.KeyBlock{KeyFormatType: kmipgo.KeyFormatTypeRaw, KeyValue: &kmipgo.KeyValue{Plain: &kmipgo.PlainKeyValue{
			KeyMaterial: kmipgo.KeyMaterial{Bytes: &material}}}},
	}}
	opaque := &payloads.GetResponsePayload{ObjectType: kmipgo.ObjectTypeOpaqueObject, UniqueIdentifier: "id-2", Object: &kmipgo.OpaqueObject{OpaqueDataType: 1, OpaqueDataValue: material}}
	refusal := response(kmipgo.ResponseBatchItem{ResultStatus: kmipgo.ResultStatusOperationFailed, ResultReason: kmipgo.ResultReasonInvalidMessage, ResultMessage: "no"})
	second := &payloads.GetAttributesResponsePayload{UniqueIdentifier: "id-2"}
	f.Add(bytes.Join([][]byte{versions, response(ok(located)), batch(described, second), batch(get, opaque)}, nil))
	f.Add(bytes.Join([][]byte{versions, response(ok(located)), refusal, response(ok(described)), response(ok(second)), response(ok(get)), response(ok(opaque))}, nil))
	f.Add(bytes.Join([][]byte{versions, refusal, refusal, refusal, refusal}, nil))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	// What servers did wrong: payloads of neighbours exchanged, one item twice, no ids and the order reversed, another
	// object, half an answer, words after a good start, a header of 4 GiB, a nest.
	begin := [][]byte{versions, response(ok(located)), batch(described, second)}
	twice := ok(get)
	twice.UniqueBatchItemID = []byte{0, 0, 0, 0}
	for _, wrong := range [][]byte{
		batch(opaque, get),
		response(twice, twice),
		response(ok(opaque), ok(get)),
		append(batch(get, get), response(ok(get))...),
		batch(get, opaque)[:100],
		[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		{0x42, 0x00, 0x7B, 0x01, 0xFF, 0xFF, 0xFF, 0xF8},
		nested(maxDepth + 2),
	} {
		f.Add(bytes.Join(append(begin, wrong), nil))
	}
	f.Add([]byte{0x42, 0x00, 0x7B, 0x01, 0xFF, 0xFF, 0xFF, 0xF8})
	f.Fuzz(func(t *testing.T, answers []byte) {
		id := &endpoint{server: Server{Name: "kms-a"}, id: &identity{}}
		s := &session{endpoint: id, address: "parrot", conn: parrot{answers: bytes.NewReader(answers)}, timeout: time.Minute, limit: 4, accepted: 4}
		if err := s.negotiate(context.Background(), kmipgo.V1_2); err != nil {
			return
		}
		jobs := []*job{
			newJob(0, Request{Selector: Selector{Name: "a"}, Versions: 2}),
			newJob(1, Request{Selector: Selector{UniqueID: "id-2"}}),
		}
		err := s.ask(context.Background(), jobs, newFindings(), true)
		for _, j := range jobs {
			switch {
			case j.done:
				for _, k := range j.result.Keys {
					if k.Secret.Len() == 0 {
						t.Error("an empty key is none")
					}
					if len(bytes.Trim(k.Secret.Bytes(), "\x00")) == 0 && !bytes.Contains(answers, k.Secret.Bytes()) {
						t.Error("a key of zeros that no server gave")
					}
					k.Secret.Destroy()
				}
			case j.failed["kms-a"] != nil:
				if j.failed["kms-a"].Error() == "" {
					t.Error("an error without words")
				}
			case err == nil:
				t.Error("the server answered everything, and a job is still open")
			}
		}
	})
}

// FuzzMessage: what checkItems lets through, kmip-go must decode or refuse;
// that it never panics is what the check is for.
func FuzzMessage(f *testing.F) {
	f.Add(ttlv.MarshalTTLV(&kmipgo.ResponseMessage{Header: kmipgo.ResponseHeader{ProtocolVersion: kmipgo.V1_2, TimeStamp: time.Unix(1, 0)}}))
	f.Add([]byte{0x42, 0x00, 0x7B, 0x01, 0, 0, 0, 16, 0x42, 0x00, 0x7A, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(nested(3))
	f.Add(nested(maxDepth + 2))
	f.Add([]byte{0x42, 0x00, 0x7B, 0x01, 0, 0, 0, 24, 0x42, 0x00, 0x7A, 0x02, 0, 0, 0, 0, 0x42, 0x00, 0x0F, 0xEE, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := readMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if resp, err := decodeMessage(msg); err == nil {
			wipeResponse(resp)
		} else if !errors.Is(err, errMessage) {
			t.Errorf("%v is not marked as a complaint about bytes", err)
		}
	})
}

// nested is a response message in a response message, and so on.
func nested(depth int) []byte {
	nest := []byte{}
	for range depth {
		head := binary.BigEndian.AppendUint32([]byte{0x42, 0x00, 0x7B, 0x01}, uint32(len(nest)))
		nest = append(head, nest...)
	}
	return nest
}

func TestADeepNestIsRefusedBeforeItIsDecoded(t *testing.T) {
	msg, err := readMessage(bytes.NewReader(nested(maxDepth + 2)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeMessage(msg); !errors.Is(err, errMessage) {
		t.Errorf("error %v", err)
	}
}

func TestATornAnswerIsAnEndAndNoMessage(t *testing.T) {
	_, err := readMessage(bytes.NewReader([]byte{0x42, 0x00, 0x7B, 0x01, 0, 0, 0, 16, 0x42}))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}
