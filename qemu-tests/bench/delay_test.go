package bench

import (
	"net"
	"testing"
	"time"
)

// delayed listens on loopback and passes each connection on, every byte later by so much in each direction, as a wire of
// that length would: what is sent in a row arrives in a row.
func delayed(b *testing.B, to string, oneWay time.Duration) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				// The handshake of TCP takes a round trip too.
				after(oneWay * 2)
				far, err := net.Dial("tcp", to)
				if err != nil {
					near.Close()
					return
				}
				go carry(far, near, oneWay)
				carry(near, far, oneWay)
			}()
		}
	}()
	return listener.Addr().String()
}

// parcel is what was read at once, and when it is due; nil is the end.
type parcel struct {
	data []byte
	due  time.Time
}

func carry(to, from net.Conn, oneWay time.Duration) {
	wire := make(chan parcel, 1024)
	go func() {
		defer close(wire)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				wire <- parcel{buf[:n], time.Now().Add(oneWay)}
			}
			if err != nil {
				wire <- parcel{due: time.Now().Add(oneWay)}
				return
			}
		}
	}()
	defer to.Close()
	for p := range wire {
		after(time.Until(p.due))
		if p.data == nil {
			return
		}
		if _, err := to.Write(p.data); err != nil {
			from.Close()
			go func() { // whoever still reads must not block on the wire
				for range wire { //nolint:revive // drained
				}
			}()
			return
		}
	}
}

func after(d time.Duration) { <-time.After(d) }
