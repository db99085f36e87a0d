package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"initd/v2v/convert"
)

// meter shows how far something is: one line that is written over on a terminal, a line now and then elsewhere, an object a second as
// JSON. It shows nothing of what ends within a second.
type meter struct {
	w        io.Writer // for people; nil shows them nothing
	json     *json.Encoder
	terminal bool
	every    time.Duration

	mu      sync.Mutex
	began   time.Time
	last    convert.Event
	shown   bool // a line is on the terminal
	samples []sample
	ended   chan struct{}
	wg      sync.WaitGroup
}

// sample is how much was done at a time, for the rate of the last seconds.
type sample struct {
	at   time.Time
	data int64
}

const (
	rateWindow   = 8 * time.Second
	terminalTick = 250 * time.Millisecond
	jsonTick     = time.Second
	linesTick    = 10 * time.Second
)

// newMeter shows progress to w if show is set, and as JSON to out if that is not nil.
func newMeter(w, out io.Writer, show bool) *meter {
	m := &meter{began: time.Now(), ended: make(chan struct{}), every: linesTick}
	if show {
		m.w = w
		if isTerminal(w) {
			m.terminal, m.every = true, terminalTick
		}
	}
	if out != nil {
		m.json, m.every = json.NewEncoder(out), jsonTick
	}
	if m.w == nil && m.json == nil {
		return m
	}
	m.wg.Go(func() {
		tick := time.NewTicker(m.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.show()
			case <-m.ended:
				return
			}
		}
	})
	return m
}

// tell notes where the work is; the ticker shows it.
func (m *meter) tell(e convert.Event) {
	if e.Note != "" {
		m.note(e.Note)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Phase != m.last.Phase {
		m.samples, m.began = nil, time.Now()
	}
	m.last = e
}

// note says something that stays.
func (m *meter) note(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	if m.json != nil {
		_ = m.json.Encode(map[string]string{"note": s})
	} else if m.w != nil {
		fmt.Fprintln(m.w, s)
	}
}

func (m *meter) clear() {
	if m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
		m.shown = false
	}
}

func (m *meter) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.Phase == "" {
		return
	}
	now := time.Now()
	m.samples = append(m.samples, sample{now, m.last.Data})
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > rateWindow {
		m.samples = m.samples[1:]
	}
	done, total := m.last.Data, m.last.Total
	if total <= 0 {
		done, total = m.last.Offset, m.last.Size
	}
	rate, left := m.rate(now, total-done)
	if m.json != nil {
		m.encode(rate, left)
		return
	}
	percent := 100
	if total > 0 {
		percent = int(min(99, done*100/total))
	}
	line := fmt.Sprintf("%-7s %3d %%  %s of %s", m.last.Phase, percent, bytesText(done), bytesText(total))
	if rate > 0 {
		line += fmt.Sprintf("  %s/s", bytesText(rate))
	}
	if left > 0 {
		line += fmt.Sprintf("  %s left", durationText(left))
	}
	if m.terminal {
		fmt.Fprintf(m.w, "\r%s\x1b[K", line)
		m.shown = true
	} else {
		fmt.Fprintln(m.w, line)
	}
}

// rate is bytes of data per second of late, and how long the rest takes at that rate; 0 where that is not known.
func (m *meter) rate(now time.Time, rest int64) (int64, time.Duration) {
	from := sample{m.began, 0}
	if len(m.samples) > 1 {
		from = m.samples[0]
	}
	took := now.Sub(from.at)
	if took < time.Second/5 || m.last.Data <= from.data {
		return 0, 0
	}
	rate := float64(m.last.Data-from.data) / took.Seconds()
	if m.last.Total <= 0 {
		return int64(rate), 0
	}
	left := time.Duration(float64(rest) / rate * float64(time.Second))
	// Whole seconds above ten keep the line calm.
	if left > 10*time.Second {
		left = left.Round(time.Second)
	}
	return int64(rate), max(0, left)
}

func (m *meter) encode(rate int64, left time.Duration) {
	_ = m.json.Encode(struct {
		Phase  string  `json:"phase"`
		Offset int64   `json:"offset"`
		Size   int64   `json:"size"`
		Data   int64   `json:"data"`
		Total  int64   `json:"total,omitempty"`
		Rate   int64   `json:"rate,omitempty"`
		Left   float64 `json:"left,omitempty"`
	}{m.last.Phase, m.last.Offset, m.last.Size, m.last.Data, m.last.Total, rate, left.Seconds()})
}

// fail ends lines of JSON with what went wrong: whoever reads them need not understand the message.
func (m *meter) fail(err error) {
	if m.json == nil {
		return
	}
	_ = m.json.Encode(struct {
		Phase string `json:"phase"`
		Error string `json:"error"`
		Code  string `json:"code,omitempty"`
	}{"failed", err.Error(), codeOf(err)})
}

// end takes the line away.
func (m *meter) end() {
	if m.w == nil && m.json == nil {
		return
	}
	close(m.ended)
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
