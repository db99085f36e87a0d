package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// maxEvent bounds one line of the event port, in bytes.
const maxEvent = 1 << 20

// Event is one JSON object that the guest wrote to its second serial port.
type Event struct {
	// At is the time since QEMU was started, by this machine's clock: for reports, never for assertions.
	At time.Duration
	// Name is the member "event".
	Name string
	// Line is the whole object.
	Line json.RawMessage
}

// Decode fills v, as json.Unmarshal does.
func (e Event) Decode(v any) error { return json.Unmarshal(e.Line, v) }

// Field gives one member as text: a string as it is, everything else as JSON; "" if there is none.
func (e Event) Field(key string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(e.Line, &members) != nil {
		return ""
	}
	var s string
	if json.Unmarshal(members[key], &s) == nil {
		return s
	}
	return string(members[key])
}

// Is matches events by name, and by any number of members with their text: Is("test", "package", "./hw/dm").
func Is(name string, members ...string) func(Event) bool {
	if len(members)%2 != 0 {
		panic("vm.Is: a member without its text")
	}
	return func(e Event) bool {
		if e.Name != name {
			return false
		}
		for i := 0; i < len(members); i += 2 {
			if e.Field(members[i]) != members[i+1] {
				return false
			}
		}
		return true
	}
}

// parseEvent reads one line of the event port.
func parseEvent(line []byte) (Event, error) {
	var e struct {
		Event *string `json:"event"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("no JSON object: %w", err)
	}
	if e.Event == nil || *e.Event == "" {
		return Event{}, fmt.Errorf(`no member "event"`)
	}
	return Event{Name: *e.Event, Line: append(json.RawMessage(nil), line...)}, nil
}

// readEvents reads the port until it ends. What is no event is reported to garbage; a torn last line is what a machine
// that loses its power leaves, and is dropped.
func readEvents(r io.Reader, log io.Writer, started time.Time, feed *feed[Event], garbage func(line string, err error)) {
	defer feed.end()
	in := bufio.NewReaderSize(io.TeeReader(r, log), 1<<16)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == bufio.ErrBufferFull && len(line) < maxEvent:
			continue
		case err == bufio.ErrBufferFull:
			garbage(string(line[:80])+"...", fmt.Errorf("longer than %d bytes", maxEvent))
		case err != nil:
			return
		default:
			e, err := parseEvent(line)
			if err != nil {
				garbage(string(line), err)
				break
			}
			e.At = time.Since(started)
			feed.add(e)
		}
		line = line[:0]
	}
}

// Events gives the guest's events so far.
func (m *VM) Events() []Event {
	m.t.Helper()
	return m.running().events.all()
}

// WaitEvent returns the first event of this boot that matches, past ones included; what says in a few words what is
// awaited. When the guard has passed, or the machine has ended without it, the test fails.
func (m *VM) WaitEvent(what string, match func(Event) bool, guard time.Duration) Event {
	m.t.Helper()
	return m.waitEvent(what, 0, match, guard)
}

// WaitEventAfter is WaitEvent for what comes after an earlier event of the same boot.
func (m *VM) WaitEventAfter(after Event, what string, match func(Event) bool, guard time.Duration) Event {
	m.t.Helper()
	from := 0
	for i, e := range m.running().events.all() {
		if e.At == after.At && string(e.Line) == string(after.Line) {
			from = i + 1
		}
	}
	return m.waitEvent(what, from, match, guard)
}

func (m *VM) waitEvent(what string, from int, match func(Event) bool, guard time.Duration) Event {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	e, _, err := m.running().events.wait(ctx, from, match)
	if err != nil {
		m.t.Fatalf("%s: wait until %s: %s; last events:\n%s", m.name, what, m.whyNot(err, guard), m.lastEvents(10))
	}
	return e
}

func (m *VM) lastEvents(n int) string {
	events := m.running().events.all()
	text := ""
	for _, e := range events[max(0, len(events)-n):] {
		text += fmt.Sprintf("  %8.3fs %s\n", e.At.Seconds(), e.Line)
	}
	if text == "" {
		return "  none"
	}
	return text
}

// Tell writes one JSON object as a line to the guest's second serial port.
func (m *VM) Tell(message any) {
	m.t.Helper()
	line, err := json.Marshal(message)
	if err != nil {
		m.t.Fatalf("%s: tell %v: %v", m.name, message, err)
	}
	if _, err := m.running().eventPort.Write(append(line, '\n')); err != nil {
		m.t.Fatalf("%s: tell %s: %v", m.name, line, err)
	}
}
