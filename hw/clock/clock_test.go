package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestFloorIsTheLatestOfWhatIsPast(t *testing.T) {
	a, b := time.Unix(100, 0), time.Unix(200, 0)
	if got := Floor(a, time.Time{}, b); !got.Equal(b) {
		t.Errorf("got %v, want %v", got, b)
	}
	if raised, err := Raise(time.Unix(1, 0)); raised || err != nil {
		t.Errorf("Raise to 1970: got %v, %v; want nothing done", raised, err)
	}
}

// answer makes a good answer to request by a clock that is off by offset.
func answer(request []byte, offset time.Duration) []byte {
	b := make([]byte, packetSize)
	b[0], b[1] = version<<3|modeServer, 2
	copy(b[24:32], request[40:48])
	put := func(at int, t time.Time) {
		binary.BigEndian.PutUint32(b[at:], uint32(t.Unix()-ntpEpoch))
		binary.BigEndian.PutUint32(b[at+4:], uint32(int64(t.Nanosecond())<<32/1e9))
	}
	put(32, time.Now().Add(offset))
	put(40, time.Now().Add(offset))
	return b
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

func TestTheMedianOutvotesALiar(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Query(ctx, []string{
		server(t, time.Hour, good), server(t, time.Hour+time.Second, good), server(t, -1000*time.Hour, good),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Offset < 59*time.Minute || s.Offset > 61*time.Minute {
		t.Errorf("offset: got %v, want about an hour", s.Offset)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		want   string
	}{
		{"a kiss of death", func(b []byte) []byte { b[1] = 0; copy(b[12:], "RATE"); return b }, "it sends us away (RATE)"},
		{"a clock that is not synchronised", set(0, leapAlarm<<6|version<<3|modeServer), "its own clock is not synchronised"},
		{"stratum 16", set(1, 16), "its own clock is not synchronised"},
		{"no time in it", set(40, 0, 0, 0, 0, 0, 0, 0, 0), "its answer holds no time"},
		{"a root that is far away", set(8, 0, 9, 0, 0), "its time is too uncertain (9s)"},
		{"an answer to something else", set(24, 1, 2, 3), "the others did not answer in time"},
		{"too short", func(b []byte) []byte { return b[:40] }, "the others did not answer in time"},
		{"silence", func([]byte) []byte { return nil }, "the others did not answer in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
			defer cancel()
			_, err := Query(ctx, []string{server(t, 0, tt.change)})
			var none *NoServerError
			if !errors.As(err, &none) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestStampsCrossTheEra(t *testing.T) {
	for _, want := range []time.Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)} {
		var b [8]byte
		binary.BigEndian.PutUint32(b[:], uint32(want.Unix()-ntpEpoch))
		if got := stamp(b[:]); !got.Equal(want) {
			t.Errorf("got %v, want %v", got.UTC(), want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(make([]byte, packetSize), 0))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var nonce [8]byte
		s, err := parse(b, nonce, time.Unix(1e9, 0), time.Second)
		if err == nil && (s.Delay < 0 || s.Delay > time.Second || s.Stratum < 1 || s.Stratum > 15) {
			t.Fatalf("a sample that cannot be: %+v", s)
		}
	})
}
