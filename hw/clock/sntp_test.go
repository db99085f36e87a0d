package clock

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hang is a guard, never a measure.
const hang = time.Minute

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// server answers on loopback with what change makes of a good answer.
func server(t *testing.T, offset time.Duration, change func([]byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if out := change(answer(b[:n], offset)); out != nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func good(b []byte) []byte { return b }

func silent([]byte) []byte { return nil }

// near tells whether an offset is want, as far as the sample itself promises.
func near(s Sample, want time.Duration) bool { return (s.Offset - want).Abs() <= s.Distance }

func TestALiarIsOutvoted(t *testing.T) {
	s, err := Query(deadline(t), []string{
		server(t, time.Hour, good), server(t, time.Hour, good), server(t, -1000*time.Hour, good),
	})
	if err != nil || !near(s, time.Hour) || s.Disputed {
		t.Errorf("got %+v, %v; want an hour, undisputed", s, err)
	}
	if now, want := s.Now(), time.Now().Add(s.Offset); now.Sub(want).Abs() > hang {
		t.Errorf("now: got %v, want %v", now, want)
	}
}

func TestTwoThatDisagreeAreDisputed(t *testing.T) {
	s, err := Query(deadline(t), []string{server(t, time.Hour, good), server(t, -time.Hour, good)})
	if err != nil || !s.Disputed {
		t.Errorf("got %+v, %v; want a disputed one", s, err)
	}
}

func TestADeadServerHoldsNobodyUp(t *testing.T) {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, tt := range []struct {
		name    string
		servers []string
	}{
		{"most of them agree, and the silent one is not waited for", []string{server(t, time.Hour, silent), server(t, time.Hour, good), server(t, time.Hour, good)}},
		{"the only one that answers is enough", []string{server(t, time.Hour, silent), gone.LocalAddr().String(), server(t, time.Hour, good)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := Query(deadline(t), tt.servers); err != nil || !near(s, time.Hour) {
				t.Errorf("got %+v, %v; want an hour", s, err)
			}
		})
	}
}

func TestASilentServerIsAskedAgain(t *testing.T) {
	var asked atomic.Int32
	s, err := Query(deadline(t), []string{server(t, time.Hour, func(b []byte) []byte {
		if asked.Add(1) == 1 {
			return nil
		}
		return b
	})})
	if err != nil || !near(s, time.Hour) || asked.Load() != 2 {
		t.Errorf("got %+v, %v after %d requests; want an hour after 2", s, err, asked.Load())
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	kiss := func(code string) func([]byte) []byte {
		return func(b []byte) []byte { b[0] |= leapAlarm << 6; b[1] = 0; copy(b[12:], code); return b }
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		want   string
		final  bool // without asking again
	}{
		{"a kiss of death", kiss("RATE"), "it sends us away (RATE)", true},
		{"a kiss with rubbish in it", kiss("A\x1b[2"), "it sends us away (A[2)", true},
		{"a server that starts", kiss("INIT"), "its own clock is not synchronised", false},
		{"a clock that is not synchronised", set(0, leapAlarm<<6|version<<3|modeServer), "its own clock is not synchronised", false},
		{"stratum 16", set(1, 16), "its own clock is not synchronised", false},
		{"no time in it", set(40, 0, 0, 0, 0, 0, 0, 0, 0), "its answer holds no time", true},
		{"a root that is far away", set(8, 0, 9, 0, 0), "its time is too uncertain (9s)", true},
		{"a time before the floor", set(32, 0xd0), "which is past for certain", true},
		{"an answer to something else", set(24, 1, 2, 3), "no answer", false},
		{"too short", func(b []byte) []byte { return b[:40] }, "no answer", false},
		{"a request", set(0, version<<3|modeClient), "no answer", false},
		{"silence", silent, "no answer", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limit := hang
			if !tt.final {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			var asked atomic.Int32
			_, err := Client{Servers: []string{server(t, 0, func(b []byte) []byte { asked.Add(1); return tt.change(b) })}, Floor: time.Unix(1_700_000_000, 0)}.Query(ctx)
			var none *NoServerError
			if !errors.As(err, &none) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.final && (asked.Load() != 1 || ctx.Err() != nil) {
				t.Errorf("asked %d times (%v), want once", asked.Load(), ctx.Err())
			}
		})
	}
	if _, err := Query(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "none is configured") {
		t.Errorf("without servers: got %v", err)
	}
}
