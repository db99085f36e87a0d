package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// packetSize is that of a header without extensions (RFC 5905, 7.3), in bytes.
const packetSize = 48

// Fields of the header (RFC 5905, 7.3).
const (
	leapAlarm  = 3 // LI: the server's clock is not synchronised
	modeClient = 3
	modeServer = 4
	version    = 4
	maxStratum = 15 // 16 is unsynchronised
)

// ntpEpoch is 1900-01-01 in Unix seconds; era is how many seconds 32 bits count. They wrap on 2036-02-07: smaller values
// are read as after it (RFC 4330, 3).
const (
	ntpEpoch = -2208988800
	era      = 1 << 32
)

// maxDistance is the largest root distance that is believed (RFC 5905, MAXDIST is 1 s for those who discipline a clock).
const maxDistance = 1500 * time.Millisecond

// nonce is the transmit timestamp of a request. A server returns it and looks at it no further, so it need not be a time,
// only unpredictable: nobody else can answer (RFC 4330, 5, and draft-ietf-ntp-data-minimization).
type nonce [8]byte

func request(n nonce) []byte {
	b := make([]byte, packetSize)
	b[0] = version<<3 | modeClient
	copy(b[40:], n[:])
	return b
}

// errForeign: an answer to something that we did not ask.
var errForeign = errors.New("an answer to another request")

// errUnsynchronised: a server that does not know the time.
var errUnsynchronised = errors.New("its own clock is not synchronised")

// parse checks an answer and computes the offset. sent is our clock when the request left, took the round trip by the
// monotonic clock.
func parse(b []byte, n nonce, sent time.Time, took time.Duration) (Sample, error) {
	if len(b) < packetSize || b[0]&7 != modeServer || nonce(b[24:32]) != n {
		return Sample{}, errForeign
	}
	s := Sample{Stratum: int(b[1])}
	if s.Stratum == 0 {
		return s, kiss(b[12:16])
	}
	if s.Stratum > maxStratum || b[0]>>6 == leapAlarm {
		return s, errUnsynchronised
	}
	received, transmitted := stamp(b[32:40]), stamp(b[40:48])
	if received.IsZero() || transmitted.IsZero() {
		return s, errors.New("its answer holds no time")
	}
	root := short(b[4:8])/2 + short(b[8:12])
	if root > maxDistance {
		return s, fmt.Errorf("its time is too uncertain (%v)", root.Round(time.Millisecond))
	}
	held := transmitted.Sub(received)
	if held < 0 || held > took {
		held = 0
	}
	s.Delay = took - held
	s.Offset = received.Sub(sent) - s.Delay/2
	s.Distance = root + s.Delay/2 + time.Millisecond // clocks of machines tick that coarsely, at worst
	return s, nil
}

// kiss reads a kiss code (RFC 5905, 7.4). A server that does not know the time yet says so by a code, or by none.
func kiss(code []byte) error {
	text := make([]byte, 0, len(code))
	for _, c := range code {
		if c > ' ' && c < 0x7f { // it may not mess up a console
			text = append(text, c)
		}
	}
	switch string(text) {
	case "", "INIT", "STEP":
		return errUnsynchronised
	}
	return fmt.Errorf("it sends us away (%s)", text)
}

// stamp reads a 64-bit timestamp; the zero one is the zero time.
func stamp(b []byte) time.Time {
	sec, frac := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if sec == 0 && frac == 0 {
		return time.Time{}
	}
	if sec < 1<<31 {
		sec += era
	}
	return time.Unix(sec+ntpEpoch, frac*1e9>>32)
}

// short reads a 32-bit fixed point number of seconds.
func short(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second >> 16
}
