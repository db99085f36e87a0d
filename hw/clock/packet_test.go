package clock

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// answer makes a good answer to request by a clock that is off by offset.
func answer(request []byte, offset time.Duration) []byte {
	b := make([]byte, packetSize)
	b[0], b[1] = version<<3|modeServer, 2
	copy(b[24:32], request[40:48])
	now := time.Now().Add(offset)
	putStamp(b[32:], now)
	putStamp(b[40:], now)
	return b
}

func putStamp(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()-ntpEpoch))
	binary.BigEndian.PutUint32(b[4:], uint32(int64(t.Nanosecond())<<32/1e9))
}

// From 1968 to 2104 a timestamp means one moment.
func TestStampsCrossTheEra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Unix(rapid.Int64Range(ntpEpoch+1<<31, ntpEpoch+era+1<<31-1).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		var b [8]byte
		putStamp(b[:], want)
		if got := stamp(b[:]); got.Sub(want).Abs() > time.Nanosecond {
			t.Fatalf("got %v, want %v", got.UTC(), want.UTC())
		}
	})
}

// A server whose clock is off by offset, at the end of a way that takes longer in one direction: what is computed is off by
// half of the difference at most, and Distance says so.
func TestTheOffsetIsWithinItsDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Millisecond
		}
		offset := ms("offset", 1<<40) - ms("behind", 1<<40)
		there, held, back := ms("there", 2000), ms("held", 2000), ms("back", 2000)
		sent := time.Unix(1_800_000_000, 0)
		var n nonce
		n[0] = 1
		b := answer(request(n), 0)
		putStamp(b[32:], sent.Add(there+offset))
		putStamp(b[40:], sent.Add(there+held+offset))
		if at := sent.Add(there + offset); at.Unix() < ntpEpoch+1<<31 || at.Unix() >= ntpEpoch+era+1<<31-10 {
			t.Skip("another era")
		}
		s, err := parse(b, n, sent, there+held+back)
		if err != nil {
			t.Fatal(err)
		}
		if got := (s.Offset - offset).Abs(); got > s.Distance {
			t.Fatalf("the offset is wrong by %v, and said to be by %v", got, s.Distance)
		}
		if want := there + back; (s.Delay - want).Abs() > time.Microsecond {
			t.Fatalf("delay: got %v, want %v", s.Delay, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(answer(make([]byte, packetSize), 0))
	f.Add([]byte("short"))
	// An answer of chrony 4.3 as a server with a local clock, to a request whose transmit timestamp is zero.
	f.Add([]byte("\x24\x03\x00\xe6\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x7f\x01\x01\xee\xac\x05\x40\x88\x9e\x1e\x6c" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\xee\xac\x05\x42\x2c\xaa\x9f\x9b\xee\xac\x05\x42\x2c\xaf\x5d\x28"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b, nonce{}, time.Unix(1e9, 0), time.Second)
		if err == nil && (s.Delay < 0 || s.Delay > time.Second || s.Stratum < 1 || s.Stratum > maxStratum || s.Distance < 0) {
			t.Fatalf("a sample that cannot be: %+v", s)
		}
	})
}
