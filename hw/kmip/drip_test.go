package kmip

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	kmipgo "github.com/ovh/kmip-go"
)

// A byte a second is an answer that goes on and on: it is the request that has a deadline, not the reading of a byte.
func TestAServerThatDripsIsEndedByTheTimeOfTheRequest(t *testing.T) {
	cases := []struct {
		name string
		from kmipgo.Operation // with the answer to this the dripping begins; 0: with the TLS handshake
		took time.Duration
		code Code
		text string
	}{
		{"from the TLS handshake on", 0, time.Second, CodeDial, "kms-a (192.0.2.21:5696): no answer for 1.0 s, kms-b answered first"},
		{"from the first message on", kmipgo.OperationDiscoverVersions, time.Second, CodeDial, "kms-a (192.0.2.21:5696): no answer for 1.0 s, kms-b answered first"},
		{"from the key on", kmipgo.OperationGet, 30 * time.Second, CodeTimeout, "kms-a (192.0.2.21:5696): no answer within 30s: look at the server"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				var on atomic.Bool
				on.Store(c.from == 0)
				n.hosts["192.0.2.21:5696"] = n.keyServerOver(func(conn net.Conn) net.Conn { return dripping{conn, &on} }, func(r *kmipgo.RequestMessage) bool {
					on.Store(on.Load() || r.BatchItem[0].Operation == c.from)
					return true
				})
				n.hosts["192.0.2.22:5696"] = n.keyServer(nil)
				cl := n.client(n.config("kms-a", "192.0.2.21:5696", "kms-b", "192.0.2.22:5696"))
				defer time.Sleep(2 * time.Second) // until the server has noticed that nobody listens
				defer cl.Close()
				var failed []*Error
				r := fetchOne(t, cl, 5*time.Minute, func(e Event) {
					if e.Kind == Failed {
						failed = append(failed, e.Error)
					}
				})
				if took := time.Since(n.started); r.Err != nil || r.Server != "kms-b" || took != c.took {
					t.Errorf("result %+v after %s, want the key of kms-b after %s", r, took, c.took)
				}
				if len(failed) != 1 || failed[0].Code != c.code || !strings.HasPrefix(failed[0].where()+": "+failed[0].Reason(), c.text) {
					t.Errorf("what failed: %v", failed)
				}
			})
		})
	}
	// Alone, it is given up by the same deadlines, again and again, until the caller's time is over.
	for name, from := range map[string]kmipgo.Operation{"the TLS handshake": 0, "the first message": kmipgo.OperationDiscoverVersions} {
		t.Run("alone, from "+name+" on", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				var on atomic.Bool
				on.Store(from == 0)
				n.hosts["192.0.2.21:5696"] = n.keyServerOver(func(conn net.Conn) net.Conn { return dripping{conn, &on} }, func(*kmipgo.RequestMessage) bool {
					on.Store(true)
					return true
				})
				cl := n.client(n.config("kms-a", "192.0.2.21:5696"))
				defer time.Sleep(2 * time.Second) // until the server has noticed that nobody listens
				defer cl.Close()
				r := fetchOne(t, cl, time.Minute, nil)
				if r.Err == nil || r.Err.Code != CodeTimeout || !strings.Contains(r.Err.Error(), "within 10s") || time.Since(n.started) != time.Minute {
					t.Errorf("%v after %s", r.Err, time.Since(n.started))
				}
			})
		})
	}
}
