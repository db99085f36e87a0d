package iscsi

import (
	"encoding/binary"
	"testing"
)

// event builds a message of the kernel's.
func event(typ uint32, at map[int]uint32, body []byte) []byte {
	b := make([]byte, nlHeader+ueventSize, nlHeader+ueventSize+len(body))
	binary.NativeEndian.PutUint32(b[nlHeader:], typ)
	for i, v := range at {
		binary.NativeEndian.PutUint32(b[nlHeader+i:], v)
	}
	return append(b, body...)
}

func TestEventsOfTheKernelAreRead(t *testing.T) {
	async := &pdu{}
	async.header[0], async.header[36] = opAsync, 1
	async.header[43] = 30
	for _, tc := range []struct {
		name string
		b    []byte
		want Event
	}{
		{"a lost connection", event(evConnError, map[int]uint32{40: 7, 48: 1022}, nil), Event{Kind: Lost, Session: 7, Error: 1022, Async: -1}},
		{"disks that are gone", event(evUnbound, map[int]uint32{40: 7}, nil), Event{Kind: Unbound, Session: 7, Async: -1}},
		{"a session that is gone", event(evDestroyed, map[int]uint32{40: 2, 44: 7}, nil), Event{Kind: Destroyed, Session: 7, Async: -1}},
		{"a target that asks to log out", event(evRecvPDU, map[int]uint32{40: 7}, async.header[:]), Event{Kind: PDU, Session: 7, Async: 1, Seconds: 30}},
	} {
		got, ok := parseEvent(tc.b)
		got.pdu = nil
		if !ok || got != tc.want {
			t.Errorf("%s: got %+v, %v", tc.name, got, ok)
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "half a message": event(evConnError, nil, nil)[:40], "another kind": event(1, nil, nil), "half a PDU": event(evRecvPDU, nil, make([]byte, 20))} {
		if e, ok := parseEvent(b); ok {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}

// FuzzEvent reads messages of the kernel, whose PDUs are a target's bytes.
func FuzzEvent(f *testing.F) {
	f.Add(event(evConnError, map[int]uint32{40: 7, 48: 1022}, nil))
	f.Add(event(evRecvPDU, map[int]uint32{40: 7}, make([]byte, 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parseEvent(b)
		if ok && e.Kind == PDU && (e.pdu == nil || len(e.pdu.data) > len(b)) {
			t.Fatalf("got %+v", e)
		}
	})
}
