package ntp

import (
	"context"
	"net"
	"testing"
	"time"

	"initd/hw/clock"
)

func TestAClientThatSharesNoCodeTakesTheAnswer(t *testing.T) {
	cases := []struct {
		name   string
		offset float64
	}{{"a right clock", 0}, {"a clock 100 days ahead", 100 * 86400}, {"a clock 1.5 s behind", -1.5}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			address := make(chan net.Addr, 1)
			ended := make(chan error, 1)
			go func() {
				ended <- Serve(ctx, Config{Listen: "127.0.0.1:0", Offset: c.offset}, func(Event) {}, func(a net.Addr) { address <- a })
			}()
			s, err := clock.Query(ctx, []string{(<-address).String()})
			if err != nil {
				t.Fatal(err)
			}
			want := time.Duration(c.offset * float64(time.Second))
			if d := s.Offset - want; d > 500*time.Millisecond || d < -500*time.Millisecond {
				t.Errorf("offset %s, want %s", s.Offset, want)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	client := make([]byte, packetSize)
	client[0] = 4<<3 | modeClient
	f.Add(client)
	f.Add([]byte{0x23})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, ok := Answer(b, time.Unix(0, 0), Config{})
		if ok && (len(out) != packetSize || string(out[24:32]) != string(b[40:48])) {
			t.Errorf("answer %x to %x", out, b)
		}
	})
}
