package vm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// maxFrame bounds one Ethernet frame: QEMU's stream netdev carries no offloads, so a frame is an MTU plus headers.
const maxFrame = 1 << 16

// queueFrames bounds what waits for one machine that does not read (it may be paused); more is lost, as on a real wire.
const queueFrames = 4096

// Wire is an Ethernet segment of its own between machines: a hub in this process. What one machine sends, all others on
// the wire get, except what Drop and Delay say. It touches no interface of the host. Safe for concurrent use.
type Wire struct {
	name    string
	capture *capture

	mu    sync.Mutex
	ports []*port
	rules []*wireRule
}

// Frame is one Ethernet frame on its way to one machine.
type Frame struct {
	// From and To are names of machines.
	From, To string
	// Data starts with the destination's MAC address; there is no checksum at its end.
	Data []byte
}

type port struct {
	machine string
	conn    net.Conn
	queue   chan []byte
	gone    chan struct{}
}

type wireRule struct {
	match func(Frame) bool
	delay time.Duration // 0: drop
	hits  int
}

// Rule is a Drop or Delay that is in force.
type Rule struct {
	wire *Wire
	rule *wireRule
}

// Hits counts the frames that it has caught.
func (r *Rule) Hits() int {
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	return r.rule.hits
}

// End lets frames pass again.
func (r *Rule) End() {
	r.wire.mu.Lock()
	defer r.wire.mu.Unlock()
	r.wire.rules = slices.DeleteFunc(r.wire.rules, func(x *wireRule) bool { return x == r.rule })
}

// NewWire makes a wire for one test. Everything on it is captured in out/vm/TEST/wire-NAME.pcap, which is kept when the
// test fails.
func NewWire(t testing.TB, name string) *Wire {
	t.Helper()
	c, err := newCapture(filepath.Join(artefactsOf(t), "wire-"+name+".pcap"))
	if err != nil {
		t.Fatalf("wire %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := c.close(!t.Failed()); err != nil {
			t.Errorf("wire %s: %v", name, err)
		}
	})
	return &Wire{name: name, capture: c}
}

// Drop loses every frame that matches, silently, on its way to each machine for which it matches.
func (w *Wire) Drop(match func(Frame) bool) *Rule { return w.addRule(&wireRule{match: match}) }

// Delay holds matching frames back for d; others overtake them.
func (w *Wire) Delay(d time.Duration, match func(Frame) bool) *Rule {
	return w.addRule(&wireRule{match: match, delay: d})
}

func (w *Wire) addRule(r *wireRule) *Rule {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = append(w.rules, r)
	return &Rule{wire: w, rule: r}
}

// attach opens a port for one machine at a unix socket and returns what closes it.
func (w *Wire) attach(machine, path string) (leave func(), err error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("wire %s: %w", w.name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		l.Close()
		if err != nil {
			return // the machine never came
		}
		p := &port{machine: machine, conn: conn, queue: make(chan []byte, queueFrames), gone: make(chan struct{})}
		w.mu.Lock()
		w.ports = append(w.ports, p)
		w.mu.Unlock()
		go p.send()
		w.receive(p)
		w.mu.Lock()
		w.ports = slices.DeleteFunc(w.ports, func(x *port) bool { return x == p })
		w.mu.Unlock()
		close(p.gone)
		conn.Close()
	}()
	return func() {
		l.Close()
		<-ended
	}, nil
}

// receive reads frames until the machine is gone. QEMU puts the length before each, 32 bits big-endian (net/stream.c).
func (w *Wire) receive(p *port) {
	in := bufio.NewReaderSize(p.conn, 1<<16)
	for {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > maxFrame {
			return
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(in, data); err != nil {
			return
		}
		w.capture.frame(data)
		w.forward(p, data)
	}
}

func (w *Wire) forward(from *port, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, to := range w.ports {
		if to == from {
			continue
		}
		rule := w.ruleFor(Frame{From: from.machine, To: to.machine, Data: data})
		switch {
		case rule == nil:
			to.put(data)
		case rule.delay > 0:
			time.AfterFunc(rule.delay, func() { to.put(data) })
		}
	}
}

func (w *Wire) ruleFor(f Frame) *wireRule {
	for _, r := range w.rules {
		if r.match(f) {
			r.hits++
			return r
		}
	}
	return nil
}

// put queues a frame; a full queue loses it.
func (p *port) put(data []byte) {
	select {
	case p.queue <- data:
	default:
	}
}

func (p *port) send() {
	for {
		select {
		case data := <-p.queue:
			frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
			if _, err := p.conn.Write(append(frame, data...)); err != nil {
				return // the machine is gone; receive notices it too
			}
		case <-p.gone:
			return
		}
	}
}
