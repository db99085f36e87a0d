package nvmeof

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The discovery log page (NVMe Base 2.0, figure 294; NVMe over Fabrics 1.1, section 5.3): a header and entries of 1024 bytes each.
const (
	recordSize = 1024
	// maxRecordsOfLog bounds a log: far above what any target lists, and 8 MiB.
	maxRecordsOfLog = 8192
	// perRead entries fit into one transfer of 4096 bytes, which every controller does.
	perRead = 4
	// maxRereads bounds how often a log that changes is begun anew.
	maxRereads = 10
)

// Kinds of an entry (subtype).
const (
	KindReferral = "referral"  // another discovery controller
	KindNVM      = "nvme"      // a subsystem with disks
	KindSelf     = "discovery" // the discovery subsystem that was asked
)

// Log is a discovery log.
type Log struct {
	Generation uint64     `json:"generation"`
	Entries    []LogEntry `json:"entries"`
}

// LogEntry is one way to one subsystem, as a target lists it.
type LogEntry struct {
	Kind      string `json:"kind"` // or "subtype N" of one that is not known here
	Transport string `json:"transport"`
	NQN       string `json:"nqn"`
	Address   string `json:"address"`
	Service   string `json:"service"`
	PortID    int    `json:"portId"`
	CntlID    int    `json:"cntlid"` // 0xffff: any, each connection gets its own
	MaxQueue  int    `json:"maxQueue,omitempty"`
	// TLS tells that the portal asks for it: required, or "".
	TLS string `json:"tls,omitempty"`
	// Same tells that this entry leads to the same information as the one that was asked.
	Same bool `json:"same,omitempty"`
}

// Target is the way that an entry names, if it is one by TCP. Every discovery controller answers to the name that all of them share,
// also one that is listed by a name of its own (NVMe Base 2.0, section 3.1.3.2).
func (e LogEntry) Target() (Target, error) {
	if e.Transport != "tcp" {
		return Target{}, fmt.Errorf("%s at %s: %s is not built, only tcp is", e.NQN, e.Address, e.Transport)
	}
	a, err := netip.ParseAddr(e.Address)
	if err != nil {
		return Target{}, fmt.Errorf("%s: the target lists the address %q, which is none", e.NQN, e.Address)
	}
	port, err := strconv.ParseUint(e.Service, 10, 16)
	if err != nil || port == 0 {
		return Target{}, fmt.Errorf("%s: the target lists the port %q, which is none", e.NQN, e.Service)
	}
	t := Target{NQN: e.NQN, Addr: netip.AddrPortFrom(a.Unmap(), uint16(port))}
	if e.Kind == KindReferral || e.Kind == KindSelf {
		t.NQN = DiscoveryNQN
	}
	return t, t.Check()
}

// LogReader reads a part of a log page: len(p) bytes from offset, both multiples of four.
type LogReader func(offset uint64, p []byte) error

// errChanged: the log is another one than it was when its reading began.
var errChanged = errors.New("the log changes faster than it can be read")

// ReadLog reads a whole log, and anew whenever the target changed it meanwhile.
func ReadLog(read LogReader) (Log, error) {
	var err error
	for range maxRereads {
		var l Log
		if l, err = readLogOnce(read); !errors.Is(err, errChanged) {
			return l, err
		}
	}
	return Log{}, fmt.Errorf("read the discovery log: %w", err)
}

func readLogOnce(read LogReader) (Log, error) {
	first := make([]byte, recordSize)
	if err := read(0, first); err != nil {
		return Log{}, fmt.Errorf("read the discovery log: %w", err)
	}
	generation, count, err := parseLogHeader(first)
	if err != nil {
		return Log{}, err
	}
	entries, failed := readEntries(read, count)
	again := make([]byte, 16)
	if err := read(0, again); err != nil {
		return Log{}, cmp.Or(failed, fmt.Errorf("read the discovery log: %w", err))
	}
	if binary.LittleEndian.Uint64(again) != generation {
		return Log{}, errChanged // whatever became of its entries: where there are fewer by now, a controller may refuse to give the rest
	}
	if failed != nil {
		return Log{}, failed
	}
	return Log{Generation: generation, Entries: entries}, nil
}

func readEntries(read LogReader, count uint64) ([]LogEntry, error) {
	list := []LogEntry{}
	for i := uint64(0); i < count; i += perRead {
		chunk := make([]byte, min(perRead, count-i)*recordSize)
		if err := read((i+1)*recordSize, chunk); err != nil {
			return nil, fmt.Errorf("read the discovery log: %w", err)
		}
		for part := range slices.Chunk(chunk, recordSize) {
			e, err := parseLogEntry(part)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

func parseLogHeader(b []byte) (generation, count uint64, err error) {
	if len(b) < 18 {
		return 0, 0, fmt.Errorf("discovery log: a header of %d bytes", len(b))
	}
	generation, count = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if format := binary.LittleEndian.Uint16(b[16:]); format != 0 {
		return 0, 0, fmt.Errorf("discovery log: its format is %d, and only 0 is known", format)
	}
	if count > maxRecordsOfLog {
		return 0, 0, fmt.Errorf("discovery log: it says that it has %d entries; %d at most are read", count, maxRecordsOfLog)
	}
	return generation, count, nil
}

// parseLogEntry reads 1024 bytes; what is not known is kept as a number.
func parseLogEntry(b []byte) (LogEntry, error) {
	if len(b) < recordSize {
		return LogEntry{}, fmt.Errorf("discovery log: an entry of %d bytes", len(b))
	}
	e := LogEntry{
		PortID: int(binary.LittleEndian.Uint16(b[4:])), CntlID: int(binary.LittleEndian.Uint16(b[6:])),
		MaxQueue: int(binary.LittleEndian.Uint16(b[8:])),
		Service:  text(b[32:64]), NQN: text(b[256:512]), Address: text(b[512:768]),
		Same: b[10]&1 != 0,
	}
	switch b[0] {
	case 1:
		e.Transport = "rdma"
	case 2:
		e.Transport = "fc"
	case 3:
		e.Transport = "tcp"
		if b[768] == 2 {
			e.TLS = "tls13"
		}
	case 254:
		e.Transport = "loop"
	default:
		e.Transport = fmt.Sprintf("transport %d", b[0])
	}
	switch b[2] {
	case 1:
		e.Kind = KindReferral
	case 2:
		e.Kind = KindNVM
	case 3:
		e.Kind = KindSelf
	default:
		e.Kind = fmt.Sprintf("subtype %d", b[2])
	}
	return e, nil
}

// text is a field padded with NULs or blanks; what could confuse a terminal is replaced.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.TrimRight(string(b), " "))
}
