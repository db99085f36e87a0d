// Package wire is what init and the orchestrator say to each other: records
// of one fixed size over a SOCK_SEQPACKET socket, descriptors beside them by
// SCM_RIGHTS.
//
// It owns the records, their encoding, the spawn spec and the connection. It
// never acts on a record, and imports neither net nor encoding/json: init has
// to stay small.
//
// # Rules of the protocol
//
// init and initd are upgraded separately, so both sides keep to these:
//
//   - init gives its end to the orchestrator as descriptor [FD]. The
//     orchestrator speaks first: a Hello with the versions it knows. init's
//     Hello answers with the version both use from then on.
//   - A record is [RecordSize] bytes, little endian, unused bytes zero. Fields
//     are only ever appended to a body, and zero means what their absence
//     meant; bytes that a reader does not know are ignored. What cannot be
//     said so is a new operation, or a new version.
//   - A request has a sequence number, and everything that answers it repeats
//     it. Records with sequence number zero await no answer.
//   - An operation that a side does not know is answered with EOPNOTSUPP. A
//     record that cannot be read is answered with EBADMSG. Neither is fatal.
//   - A socket belongs to one generation of the orchestrator. init closes it
//     when it starts the next: whoever held it before leads no more.
package wire

import "errors"

const (
	// RecordSize is the size of every record, in bytes.
	RecordSize = 512
	// FD is the descriptor at which the orchestrator finds its end.
	FD = 3
	// MinVersion and MaxVersion are the versions that this package speaks.
	MinVersion, MaxVersion = 1, 1

	// MaxName is the longest name of a service or a stored descriptor, in bytes.
	MaxName = 64
	// MaxPath is the longest path in a record, in bytes.
	MaxPath = 200
	// MaxText is the longest text for people in a record, in bytes; longer
	// ones are cut.
	MaxText = 200
	// MaxFiles is the largest number of descriptors beside one record. The
	// kernel's limit is 253 (SCM_MAX_FD, include/net/scm.h).
	MaxFiles = 64
	// MaxBusy is the number of pids that a Hello can list.
	MaxBusy = 32
)

// Op says what a record is. Numbers are never used again.
type Op uint16

// The operations. "to init" are requests of the orchestrator.
const (
	OpHello     Op = 1  // both ways
	OpAnswer    Op = 2  // both ways: ends a request
	OpSpawn     Op = 3  // to init; answered by Spawned or Answer
	OpSpawned   Op = 4  // with a pidfd
	OpRunning   Op = 5  // from init: the program has been loaded
	OpSignal    Op = 6  // to init
	OpExited    Op = 7  // from init, until acknowledged
	OpAck       Op = 8  // to init
	OpStore     Op = 9  // to init, with a descriptor
	OpFetch     Op = 10 // to init; answered by Stored or Answer
	OpStored    Op = 11 // from init; with the descriptor when it was fetched
	OpDrop      Op = 12 // to init
	OpList      Op = 13 // to init; answered by Service and Stored records, then Answer
	OpService   Op = 14 // from init, with a pidfd while it runs
	OpHeartbeat Op = 15 // to init
	OpWatchdog  Op = 16 // to init
	OpFailure   Op = 17 // to init
	OpGoing     Op = 18 // to init
	OpReboot    Op = 19 // to init
	OpRestart   Op = 20 // to init
	OpEvent     Op = 21 // from init
	// OpSwitchRoot hands the machine over to another init; to init.
	OpSwitchRoot Op = 22
)

// Message is the body of a record.
type Message interface {
	Op() Op
	put(*writer)
	get(*reader)
}

// Record is one record. Version is the sender's; it matters for Hello only.
type Record struct {
	Version uint16
	Seq     uint64
	Message Message
}

// Unknown stands for an operation of a later version.
type Unknown struct{ Code Op }

// Op returns the unknown operation's number.
func (m *Unknown) Op() Op      { return m.Code }
func (m *Unknown) put(*writer) {}
func (m *Unknown) get(*reader) {}

// ErrNotRecord is the error of bytes that are no record at all: wrong size or
// wrong start.
var ErrNotRecord = errors.New("not a record of this protocol")

// ErrMalformed is the error of a record with a field that cannot be: a length
// beyond its field, or a NUL in a name. The record's Seq is valid.
var ErrMalformed = errors.New("malformed record")

// header: magic 4, version 2, op 2, seq 8, reserved 8.
const (
	magic      = "ini1"
	headerSize = 24
)

// Encode returns the record's bytes. Texts that are too long are cut, names
// that are too long or hold a NUL are an error.
func (r Record) Encode() ([RecordSize]byte, error) {
	var b [RecordSize]byte
	copy(b[:], magic)
	h := writer{b: b[4:headerSize]}
	version := r.Version
	if version == 0 {
		version = MaxVersion
	}
	h.u16(version)
	h.u16(uint16(r.Message.Op()))
	h.u64(r.Seq)
	w := writer{b: b[headerSize:]}
	r.Message.put(&w)
	if w.bad {
		return b, ErrMalformed
	}
	return b, nil
}

// Decode reads one record. On ErrMalformed the record's Seq and Version are
// valid and its Message is an Unknown with the operation's number.
func Decode(b []byte) (Record, error) {
	if len(b) != RecordSize || string(b[:4]) != magic {
		return Record{}, ErrNotRecord
	}
	h := reader{b: b[4:headerSize]}
	rec := Record{Version: h.u16()}
	op := Op(h.u16())
	rec.Seq = h.u64()
	m := New(op)
	r := reader{b: b[headerSize:]}
	m.get(&r)
	if r.bad {
		rec.Message = &Unknown{Code: op}
		return rec, ErrMalformed
	}
	rec.Message = m
	return rec, nil
}

// New returns an empty message of an operation; an Unknown for those that
// this version does not have.
func New(op Op) Message {
	switch op {
	case OpHello:
		return &Hello{}
	case OpAnswer:
		return &Answer{}
	case OpSpawn:
		return &Spawn{}
	case OpSpawned:
		return &Spawned{}
	case OpRunning:
		return &Running{}
	case OpSignal:
		return &Signal{}
	case OpExited:
		return &Exited{}
	case OpAck:
		return &Ack{}
	case OpStore:
		return &Store{}
	case OpFetch:
		return &Fetch{}
	case OpStored:
		return &Stored{}
	case OpDrop:
		return &Drop{}
	case OpList:
		return &List{}
	case OpService:
		return &Service{}
	case OpHeartbeat:
		return &Heartbeat{}
	case OpWatchdog:
		return &Watchdog{}
	case OpFailure:
		return &Failure{}
	case OpGoing:
		return &Going{}
	case OpReboot:
		return &Reboot{}
	case OpRestart:
		return &Restart{}
	case OpEvent:
		return &Event{}
	case OpSwitchRoot:
		return &SwitchRoot{}
	}
	return &Unknown{Code: op}
}

// Agree returns the version that both sides use: the highest that both know.
func Agree(otherMin, otherMax uint16) (version uint16, ok bool) {
	v := min(otherMax, MaxVersion)
	return v, v >= MinVersion && v >= otherMin && v > 0
}
