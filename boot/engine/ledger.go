package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// ledgerSchema heads the file. A file that another version wrote is read as
// far as it is understood and never written.
const ledgerSchema = "initd.ledger/v1"

// ledgerCompact is the size, in bytes, above which the file is rewritten when
// it is opened.
const ledgerCompact = 256 << 10

// Ledger remembers over the death of an orchestrator what the kernel does not:
// tries (an intent before, the outcome after; an intent without an outcome
// counts as a failed try), oneshots, operators' stops, and when the budget
// began. It lives in a folder on tmpfs, so that it ends with the boot; nothing
// is synced. Its methods may be called from any goroutine.
type Ledger struct {
	mu       sync.Mutex
	file     *os.File // guarded by mu; nil: memory only
	readOnly bool
	state    ledgerState // guarded by mu
}

// ledgerState is the fold of the records.
type ledgerState struct {
	tries   map[string]int
	open    map[string]int // intents without an outcome, of those in tries
	once    map[string]bool
	stopped map[string]bool
	origin  *time.Duration // nil: not begun
	settled bool
}

// ledgerRecord is one line.
type ledgerRecord struct {
	Schema string        `json:"schema,omitempty"`
	Op     string        `json:"op"`
	Key    string        `json:"key,omitempty"`
	OK     bool          `json:"ok,omitempty"`
	N      int           `json:"n,omitempty"`
	At     time.Duration `json:"at,omitempty"`
}

func newLedger() *Ledger {
	return &Ledger{state: newLedgerState()}
}

func newLedgerState() ledgerState {
	return ledgerState{tries: map[string]int{}, open: map[string]int{}, once: map[string]bool{}, stopped: map[string]bool{}}
}

// OpenLedger opens or creates the ledger in dir.
func OpenLedger(dir string) (*Ledger, error) {
	name := filepath.Join(dir, "ledger")
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := newLedger()
	schema := ""
	for _, line := range bytes.Split(old, []byte("\n")) {
		var r ledgerRecord
		if json.Unmarshal(line, &r) != nil { // a torn record, or none of ours
			continue
		}
		if r.At < 0 {
			continue
		}
		if r.Schema != "" {
			schema = r.Schema
			continue
		}
		l.state.apply(r)
	}
	if schema != "" && schema != ledgerSchema {
		l.readOnly = true
		return l, nil
	}
	if schema == "" || len(old) > ledgerCompact {
		if err := renameio.WriteFile(name, l.state.dump(), 0o600, renameio.WithTempDir(dir)); err != nil {
			return nil, fmt.Errorf("write ledger: %w", err)
		}
		old = nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if n := len(old); n > 0 && old[n-1] != '\n' {
		if _, err := f.Write([]byte("\n")); err != nil {
			f.Close()
			return nil, fmt.Errorf("mend ledger: %w", err)
		}
	}
	l.file = f
	return l, nil
}

// Close closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// ReadOnly: another version wrote the file; what is noted now stays in memory.
func (l *Ledger) ReadOnly() bool { return l.readOnly }

// Intent notes that a try of key begins. Keys of units are "unit/ID"; an
// action that counts tries of its own (a drive's) uses a key of its own. The
// try must not begin if this fails.
func (l *Ledger) Intent(key string) error { return l.add(ledgerRecord{Op: "intent", Key: key}) }

// Outcome notes how the try that Intent began ended.
func (l *Ledger) Outcome(key string, ok bool) error {
	return l.add(ledgerRecord{Op: "outcome", Key: key, OK: ok})
}

// Withdraw notes that the try that Intent began was called off before it
// could count.
func (l *Ledger) Withdraw(key string) error { return l.add(ledgerRecord{Op: "withdraw", Key: key}) }

// Tries is how many tries of key have failed since the last that succeeded.
// One that has begun and not ended counts.
func (l *Ledger) Tries(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.tries[key]
}

// Once notes that the oneshot key has run; Ran tells.
func (l *Ledger) Once(key string) error { return l.add(ledgerRecord{Op: "once", Key: key}) }

// Ran tells whether the oneshot key has run in this boot.
func (l *Ledger) Ran(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.once[key]
}

// Stop notes an operator's stop of a unit; Start takes it back.
func (l *Ledger) Stop(unit string) error { return l.add(ledgerRecord{Op: "stop", Key: unit}) }

// Start takes an operator's stop back.
func (l *Ledger) Start(unit string) error {
	if !l.Stopped(unit) {
		return nil
	}
	return l.add(ledgerRecord{Op: "start", Key: unit})
}

// Stopped tells whether an operator stopped the unit.
func (l *Ledger) Stopped(unit string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.stopped[unit]
}

// Origin returns when (CLOCK_BOOTTIME) the budget of this boot began: now, for
// the first orchestrator, and what that one noted for its successors.
func (l *Ledger) Origin(now time.Duration) (time.Duration, error) {
	l.mu.Lock()
	origin := l.state.origin
	l.mu.Unlock()
	if origin != nil {
		return *origin, nil
	}
	return now, l.add(ledgerRecord{Op: "origin", At: now})
}

// Settled tells whether an orchestrator of this boot has settled already;
// SetSettled notes it.
func (l *Ledger) Settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.settled
}

// SetSettled notes that this boot has settled.
func (l *Ledger) SetSettled() error { return l.add(ledgerRecord{Op: "settled"}) }

func (l *Ledger) add(r ledgerRecord) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		line = append(line, '\n')
		if n, err := l.file.Write(line); err != nil {
			if n > 0 {
				// Keep the next record apart from the torn one.
				_, _ = l.file.Write([]byte("\n"))
			}
			return fmt.Errorf("write ledger: %w", err)
		}
	}
	l.state.apply(r)
	return nil
}

func (s *ledgerState) apply(r ledgerRecord) {
	switch r.Op {
	case "intent":
		s.tries[r.Key]++
		s.open[r.Key]++
	case "outcome", "withdraw":
		if s.open[r.Key] > 0 {
			s.open[r.Key]--
			if r.Op == "withdraw" {
				s.tries[r.Key]--
			}
		}
		if r.OK {
			delete(s.tries, r.Key)
			delete(s.open, r.Key)
		}
	case "tries": // of a rewritten file
		s.tries[r.Key] = max(r.N, 0)
	case "once":
		s.once[r.Key] = true
	case "stop":
		s.stopped[r.Key] = true
	case "start":
		delete(s.stopped, r.Key)
	case "origin":
		s.origin = &r.At
	case "settled":
		s.settled = true
	}
}

// dump is a file with the same state.
func (s *ledgerState) dump() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	put := func(r ledgerRecord) { _ = enc.Encode(r) } // a buffer and plain types: cannot fail
	put(ledgerRecord{Schema: ledgerSchema})
	if s.origin != nil {
		put(ledgerRecord{Op: "origin", At: *s.origin})
	}
	if s.settled {
		put(ledgerRecord{Op: "settled"})
	}
	for k, n := range s.tries {
		put(ledgerRecord{Op: "tries", Key: k, N: n})
	}
	for k := range s.once {
		put(ledgerRecord{Op: "once", Key: k})
	}
	for k := range s.stopped {
		put(ledgerRecord{Op: "stop", Key: k})
	}
	return b.Bytes()
}
