// Package ntp answers SNTP clients (RFC 4330), with a clock that may be wrong
// on purpose.
//
// It owns the server's half of the protocol: one packet in, one packet out. It
// never sets a clock. It is for tests.
package ntp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// Config is one server.
type Config struct {
	// Listen is an address and a port, such as "192.0.2.123:123".
	Listen string `json:"listen"`
	// Offset is added to this machine's clock, in seconds.
	Offset float64 `json:"offset,omitempty"`
	// Late is after how many seconds it begins to answer; what arrives before is dropped.
	Late float64 `json:"late,omitempty"`
	// Silent servers never answer.
	Silent bool `json:"silent,omitempty"`
	// Unsynchronised servers answer with the leap indicator 3 and stratum 16.
	Unsynchronised bool `json:"unsynchronised,omitempty"`
}

// Event is a thing that happened, as a JSON line.
type Event struct {
	Event  string `json:"event"` // always "ntp"
	Op     string `json:"op"`    // listen, answer or drop
	Server string `json:"server"`
	Client string `json:"client,omitempty"`
}

const (
	packetSize = 48         // RFC 4330, section 4
	eraOffset  = 2208988800 // seconds from 1900 to 1970, RFC 4330, section 3

	modeClient = 3
	modeServer = 4
)

// Serve answers until ctx ends. ready hears the address once it listens.
func Serve(ctx context.Context, cfg Config, emit func(Event), ready func(net.Addr)) error {
	conn, err := net.ListenPacket("udp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("ntp: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	started := time.Now()
	emit(Event{Event: "ntp", Op: "listen", Server: cfg.Listen})
	if ready != nil {
		ready(conn.LocalAddr())
	}
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ntp: %w", err)
		}
		arrived := time.Now()
		answer, ok := Answer(buf[:n], arrived, cfg)
		if !ok || cfg.Silent || arrived.Sub(started).Seconds() < cfg.Late {
			emit(Event{Event: "ntp", Op: "drop", Server: cfg.Listen, Client: from.String()})
			continue
		}
		if _, err := conn.WriteTo(answer, from); err != nil {
			return fmt.Errorf("ntp: answer %s: %w", from, err)
		}
		emit(Event{Event: "ntp", Op: "answer", Server: cfg.Listen, Client: from.String()})
	}
}

// Answer makes the answer to a client's packet; false if it is none.
func Answer(request []byte, arrived time.Time, cfg Config) ([]byte, bool) {
	if len(request) < packetSize || request[0]&7 != modeClient {
		return nil, false
	}
	shift := time.Duration(cfg.Offset * float64(time.Second))
	out := make([]byte, packetSize)
	version := request[0] >> 3 & 7
	leap, stratum := byte(0), byte(1)
	if cfg.Unsynchronised {
		leap, stratum = 3, 16
	}
	out[0] = leap<<6 | version<<3 | modeServer
	out[1] = stratum
	out[2] = request[2]
	out[3] = 0xEC // precision 2^-20 s
	copy(out[12:], "TEST")
	stamp(out[16:], arrived.Add(shift)) // reference
	copy(out[24:32], request[40:48])    // originate: the client's transmit stamp
	stamp(out[32:], arrived.Add(shift)) // receive
	stamp(out[40:], arrived.Add(shift)) // transmit
	return out, true
}

// stamp writes seconds since 1900 and their fraction; the era wraps by itself.
func stamp(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+eraOffset))
	binary.BigEndian.PutUint32(b[4:], uint32((uint64(t.Nanosecond())<<32)/1e9))
}
