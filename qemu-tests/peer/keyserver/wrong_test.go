package keyserver_test

import (
	"context"
	"crypto/x509"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
)

// wrong is a key server, or a key on it, or a client, with something wrong.
type wrong struct {
	name   string
	cert   pki.Options                                      // of the server
	ca     bool                                             // the server's certificate is of another CA
	client func(t *testing.T, w *world) *pki.Pair           // nil: a good one
	b      keyserver.Behaviour                              //
	f      keyserver.Faults                                 //
	change func(list []keyserver.Object) []keyserver.Object // of the key "k"; nil: it is there
	timing kmip.Timing

	code kmip.Code
	text string // all of it, with dates as DATE and the port as PORT
	// hangsUp: whether the server's kernel says "closed" or "reset" depends on whether it had read all of ours by then.
	hangsUp bool
	// waits: the call waits for the server to get better, until its time is over.
	waits bool
	// clock: a step of this machine's clock is a reason to try again.
	clock bool
	// undialled: the server never hears of us.
	undialled bool
	// mended: the server gives the key nevertheless.
	mended bool
	// alone: the other server of the group cannot be used either.
	alone bool
}

func changed(change func(o *keyserver.Object)) func([]keyserver.Object) []keyserver.Object {
	return func(list []keyserver.Object) []keyserver.Object {
		change(&list[0])
		return list
	}
}

func inState(state string) func([]keyserver.Object) []keyserver.Object {
	return changed(func(o *keyserver.Object) { o.State = state })
}

func client(o pki.Options) func(*testing.T, *world) *pki.Pair {
	return func(t *testing.T, w *world) *pki.Pair { return must(w.ca.Client(o, "store-07"))(t) }
}

const from = `get key "k" from kms-a (127.0.0.1:PORT): `

func wrongs() []wrong {
	return []wrong{
		{name: "a server of another CA", ca: true, code: kmip.CodeTLSCA,
			text: from + `certificate is not signed by a configured CA (issuer "CN=another CA,O=initd tests"): add the CA that signed it to the bundle, if it is the right one`},
		{name: "an expired server certificate", cert: pki.Expired(), code: kmip.CodeTLSExpired, clock: true,
			text: from + `certificate has expired on DATE by this clock (DATE): renew it on the server, or set this machine's clock`},
		{name: "a server certificate of tomorrow", cert: pki.NotYet(), code: kmip.CodeTLSNotYet, clock: true,
			text: from + `certificate is not yet valid: it is from DATE, this clock says DATE: set this machine's clock`},
		{name: "our own certificate has expired", client: client(pki.Expired()), code: kmip.CodeTLSClientRefused, clock: true, alone: true,
			text: from + `the server refused our client certificate (tls: expired certificate): it has expired on DATE by this clock (DATE): renew it`},
		{name: "our own certificate is not for clients", client: client(pki.Options{EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), code: kmip.CodeConfig, undialled: true, alone: true,
			text: from + `client certificate "CN=store-07,O=initd tests" is not for client authentication: its extended key usage does not name clientAuth: have it issued for that`},
		{name: "our own certificate does not say what it is for, and the server wants it to", client: client(pki.Options{NoEKU: true}), b: keyserver.Behaviour{RequireEKU: true}, code: kmip.CodeTLSClientRefused,
			text: from + `the server refused our client certificate (tls: bad certificate): it does not allow client authentication (extended key usage clientAuth): have it issued for that`},
		{name: "a server that refuses every client", f: keyserver.Faults{Refuse: keyserver.RefuseAlert}, code: kmip.CodeTLSClientRefused,
			text: from + `the server refused our client certificate (tls: bad certificate): have the server trust its issuer ("CN=test CA,O=initd tests"), and register this client there`},
		{name: "a server that refuses every client by hanging up", f: keyserver.Faults{Refuse: keyserver.RefuseHangUp}, code: kmip.CodeClosed, hangsUp: true, waits: true,
			text: from + `the server closed the connection: it did so after the TLS handshake: it may have refused our client certificate without saying so: register this client there`},
		{name: "a server that refuses every client in KMIP", f: keyserver.Faults{Refuse: keyserver.RefuseAnswer}, code: kmip.CodeDenied,
			text: from + `the server refused: authentication not successful ("WORDS"): register this client on the server`},
		{name: "a server that takes TLS 1.1 at most", b: keyserver.Behaviour{MaxTLS: "1.1"}, code: kmip.CodeTLSVersion,
			text: from + `no TLS version in common: 1.2 and 1.3 are offered: have the server speak TLS 1.2 or 1.3`},
		{name: "a server that takes TLS 1.0 at most", b: keyserver.Behaviour{MaxTLS: "1.0"}, code: kmip.CodeTLSVersion,
			text: from + `no TLS version in common: 1.2 and 1.3 are offered: have the server speak TLS 1.2 or 1.3`},
		{name: "a server that knows nothing but TLS 1.1", f: keyserver.Faults{BareHello: "1.1"}, code: kmip.CodeTLSVersion,
			text: from + `the server chose TLS 1.1, which is too old: have the server speak TLS 1.2 or 1.3`},
		{name: "a server that knows nothing but TLS 1.0", f: keyserver.Faults{BareHello: "1.0"}, code: kmip.CodeTLSVersion,
			text: from + `the server chose TLS 1.0, which is too old: have the server speak TLS 1.2 or 1.3`},

		{name: "a key that is missing", change: func([]keyserver.Object) []keyserver.Object { return nil }, code: kmip.CodeNotFound,
			text: from + `no object matches k: register the key on the server, or correct its name`},
		{name: "two keys that match", change: func(l []keyserver.Object) []keyserver.Object {
			twin := l[0]
			twin.ID = "id-2"
			return append(l, twin)
		}, code: kmip.CodeAmbiguous,
			text: from + `2 objects match k, wanted is exactly one: id-1, id-2: select more narrowly, or deactivate the others`},
		{name: "a private key in the place of the key", change: changed(func(o *keyserver.Object) { o.Type, o.Format = "PrivateKey", "PKCS8" }), code: kmip.CodeWrongType,
			text: from + `k is a PrivateKey, wanted is SecretData, SymmetricKey or OpaqueObject: register the key itself under that name, or correct the name`},
		{name: "a key that was deactivated", change: inState("Deactivated"), code: kmip.CodeState,
			text: from + `k (id-1) is deactivated: register the key in use now under that name on the server`},
		{name: "a key that is compromised", change: inState("Compromised"), code: kmip.CodeState,
			text: from + `k (id-1) is compromised: give the medium a new key, and register that one under the name on the server`},
		{name: "a key that was destroyed", change: inState("Destroyed"), code: kmip.CodeState,
			text: from + `k (id-1) is destroyed: restore it from the server's backup, or open the medium by another key`},
		{name: "a key that was compromised and destroyed", change: inState("Destroyed Compromised"), code: kmip.CodeState,
			text: from + `k (id-1) is destroyed compromised: restore it from the server's backup, or open the medium by another key`},
		{name: "a key that we may not have", change: changed(func(o *keyserver.Object) { o.Denied = true }), code: kmip.CodeDenied,
			text: from + `the server refused: permission denied ("WORDS"): give this client access to the object on the server`},

		{name: "somebody else's key, by the id in the answer", change: changed(func(o *keyserver.Object) { o.GiveAs = "id-9" }), code: kmip.CodeProtocol,
			text: from + `the server gave another object ("id-9") than was asked for ("id-1"): it is not used: look at the server: it mixes objects up`},
		{name: "somebody else's attributes", change: changed(func(o *keyserver.Object) { o.DescribeAs = "id-9" }), code: kmip.CodeProtocol,
			text: from + `attributes of id-1: the server gave another object ("id-9") than was asked for ("id-1"): it is not used: look at the server: it mixes objects up`},
		{name: "somebody else's key, found under our name", change: changed(func(o *keyserver.Object) { o.Name, o.LocateAs = "another", "k" }), code: kmip.CodeNotFound,
			text: from + `the server offered 1 object, and none has the attributes asked for (k): register the key on the server, or correct its name`},

		{name: "a server that answers with a web page from the start", f: keyserver.Faults{Garbage: keyserver.GarbageText, From: 1}, code: kmip.CodeProtocol,
			text: from + `the answer is not KMIP: it begins with 48 54 54 50: check the port, and look at the server: it is another program, or broken`},
		{name: "a server that answers with a web page later", f: keyserver.Faults{Garbage: keyserver.GarbageText}, code: kmip.CodeProtocol,
			text: from + `the answer is not KMIP: it begins with 48 54 54 50: check the port, and look at the server: it is another program, or broken`},
		{name: "a server that announces 4 GiB", f: keyserver.Faults{Garbage: keyserver.GarbageLength}, code: kmip.CodeProtocol,
			text: from + `the answer is not KMIP: length 4294967288, at most 1048568 in steps of 8 are taken: check the port, and look at the server: it is another program, or broken`},
		{name: "a server whose messages are no items", f: keyserver.Faults{Garbage: keyserver.GarbageItems}, code: kmip.CodeProtocol,
			text: from + `the answer is not KMIP: item 42007a: type 02 with 0 bytes: check the port, and look at the server: it is another program, or broken`},
		{name: "a server whose items nest without an end", f: keyserver.Faults{Garbage: keyserver.GarbageNesting}, code: kmip.CodeProtocol,
			text: from + `the answer is not KMIP: structures nest deeper than 24: check the port, and look at the server: it is another program, or broken`},
		{name: "a server that answers byte by byte", f: keyserver.Faults{Drip: 0.05}, timing: kmip.Timing{Exchange: time.Second}, code: kmip.CodeTimeout,
			text: from + `2 connections ended at this request: only N bytes of an answer came within 1s: look at the server: it is overloaded or broken`},
		{name: "a server that answers byte by byte from the start", f: keyserver.Faults{Drip: 0.05, From: 1}, timing: kmip.Timing{Exchange: time.Second}, code: kmip.CodeTimeout, waits: true,
			text: from + `only N bytes of an answer came within 1s: look at the server: it is overloaded or broken`},
		{name: "a server that resets the connection in every answer", f: keyserver.Faults{Reset: true}, code: kmip.CodeClosed,
			text: from + `2 connections ended at this request: the server reset the connection: look at the server's log for this request`},
		{name: "a server that resets the connection once", f: keyserver.Faults{Reset: true, Times: 1}, mended: true},
	}
}

// serve starts the server of a row. It has the key "k", and one that concerns nobody.
func (x wrong) serve(t *testing.T, w *world, kind string) kmip.Server {
	t.Helper()
	ca := w.ca
	if x.ca {
		ca = must(pki.NewCA("another CA", pki.Options{}))(t)
	}
	pair := must(ca.Server(x.cert, "127.0.0.1"))(t)
	objects := []keyserver.Object{{ID: "id-1", Name: "k", Value: "7468652077726f6e67206b6579"}}
	if x.change != nil {
		objects = x.change(objects)
	}
	s := must(keyserver.Start(keyserver.Config{
		Name: "kms-a", Kind: kind, Listen: "127.0.0.1:0", CA: string(w.ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key),
		Behaviour: x.b, Faults: x.f, Objects: append(objects, object(9)),
	}, w.hear))(t)
	t.Cleanup(s.Close)
	return x.at(t, w, "kms-a", s)
}

func (x wrong) at(t *testing.T, w *world, name string, s *keyserver.Server) kmip.Server {
	server := w.at(name, s.Addr())
	if x.client != nil {
		identify(&server, x.client(t, w))
	}
	return server
}

// patience is how often the client may wait for servers to get better before its time is over.
const patience = 3

// fetch gets the key "k".
func (x wrong) fetch(t *testing.T, cfg kmip.Config) (kmip.Result, *story) {
	t.Helper()
	ctx, cancel := context.WithCancel(guard(t))
	defer cancel()
	st := &story{}
	cfg.Timing = x.timing
	cfg.Timing.Backoff = 10 * time.Millisecond
	r := kmip.Fetch(ctx, cfg, named("k"), func(e kmip.Event) {
		st.hear(e)
		if len(st.kinds(kmip.Waiting)) == patience {
			cancel()
		}
	})[0]
	return r, st
}

var (
	dates   = regexp.MustCompile(`\d{4}-\d{2}-\d{2}(T[0-9:]+Z)?`)
	trickle = regexp.MustCompile(`only \d+ bytes`)
	words   = regexp.MustCompile(`(successful|denied) \("[^"]*"\)`)
)

// What can be wrong with a server, a key on it, or our own certificate: each has its code, and says about which object and
// server it is and what to do. The other server of the group gives the key, unless what is wrong is ours; servers of other
// groups never hear of it.
func TestEveryWrongServerHasItsErrorAndTheOtherServerHelps(t *testing.T) {
	for _, x := range wrongs() {
		t.Run(x.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string) {
				t.Parallel()
				w := newWorld(t)
				a := x.serve(t, w, kind)
				blue := w.at("blue", w.serve(kind, "blue", keyserver.Behaviour{}, keyserver.Object{ID: "1", Name: "k", Value: "626c7565"}).Addr())
				blue.Group = "blue"

				r, st := x.fetch(t, kmip.Config{Servers: []kmip.Server{a, blue}})
				x.check(t, w, r, st, a)

				b := x.at(t, w, "kms-b", w.serve(kind, "kms-b", keyserver.Behaviour{}, keyserver.Object{ID: "1", Name: "k", Value: "746865207269676874206b6579"}))
				r, st = x.fetch(t, kmip.Config{Servers: []kmip.Server{a, b, blue}})
				want := got{Keys: []string{"the right key"}, Server: "kms-b"}
				switch {
				case x.alone:
					want = got{Code: x.code}
				case x.mended:
					want = got{Keys: []string{"the wrong key"}, Server: "kms-a"}
				}
				if diff := cmp.Diff([]got{want}, outcomes(t, []kmip.Result{r})); diff != "" {
					t.Errorf("with a good second server (-want +got):\n%s\n%v", diff, r.Err)
				}
				if x.alone && !strings.Contains(r.Err.Error(), "kms-a") && !strings.Contains(r.Err.Error(), "kms-b") {
					t.Errorf("the error names one server of two: %v", r.Err)
				}
				tellsNoSecret(t, st.events, []byte("the right key"), w.client.Key)
				if n := w.asked("blue"); n != 0 {
					t.Errorf("the server of another group was asked %d times", n)
				}
			})
		})
	}
}

func (x wrong) check(t *testing.T, w *world, r kmip.Result, st *story, a kmip.Server) {
	t.Helper()
	if x.mended {
		if diff := cmp.Diff([]got{{Keys: []string{"the wrong key"}, Server: "kms-a"}}, outcomes(t, []kmip.Result{r})); diff != "" {
			t.Errorf("(-want +got):\n%s\n%v", diff, r.Err)
		}
		return
	}
	if r.Err == nil {
		t.Fatal("no error")
	}
	_, port, _ := net.SplitHostPort(a.Address)
	text := strings.ReplaceAll(dates.ReplaceAllString(r.Err.Error(), "DATE"), ":"+port, ":PORT")
	text = trickle.ReplaceAllString(text, "only N bytes")
	text = words.ReplaceAllString(text, `$1 ("WORDS")`)
	if x.hangsUp {
		text = strings.Replace(text, "the server reset the connection", "the server closed the connection", 1)
	}
	if diff := cmp.Diff([]string{string(x.code), x.text}, []string{string(r.Err.Code), text}); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	if r.Err.Object != "k" || r.Err.Server != "kms-a" || r.Err.Hint == "" {
		t.Errorf("the error is about object %q and server %q, and says to do %q", r.Err.Object, r.Err.Server, r.Err.Hint)
	}
	if waits := len(st.kinds(kmip.Waiting)) == patience; waits != x.waits {
		t.Errorf("the client waited for the server to get better: %v, want %v", waits, x.waits)
	}
	if r.Err.Clock != x.clock {
		t.Errorf("a step of the clock is a reason to try again: %v, want %v", r.Err.Clock, x.clock)
	}
	if want := x.code != kmip.CodeConfig; r.Err.Retryable != want {
		t.Errorf("another attempt may help: %v, want %v", r.Err.Retryable, want)
	}
	if dialled := w.asked("kms-a") > 0; dialled == x.undialled {
		t.Errorf("the server was dialled: %v, want %v", dialled, !x.undialled)
	}
	tellsNoSecret(t, r, []byte("the wrong key"), w.client.Key)
	tellsNoSecret(t, st.events, []byte("the wrong key"), w.client.Key)
}

// asked is how many connections a server had.
func (w *world) asked(server string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Server == server && e.Op == "accept" {
			n++
		}
	}
	return n
}

// A batch of keys of which every answer is spoilt in some way, once or always: each key comes, and it is the right one.
func TestASpoiltBatchCostsNoKeyAndPairsNoneWrongly(t *testing.T) {
	cases := []struct {
		name string
		f    keyserver.Faults
	}{
		{"a reset in the middle of the first batch", keyserver.Faults{Reset: true, Times: 1}},
		{"a reset in the middle of the batch of keys", keyserver.Faults{Reset: true, From: 4, Times: 1}},
		{"a reset in the middle of every third answer of a connection", keyserver.Faults{Reset: true, From: 4}},
		{"neighbours have each other's payloads", keyserver.Faults{Muddle: keyserver.MuddlePayloads}},
		{"answers in reverse, without ids", keyserver.Faults{Muddle: keyserver.MuddleOrder}},
		{"the first answer twice and the second one never", keyserver.Faults{Muddle: keyserver.MuddleTwice}},
		{"neighbours have each other's payloads, once", keyserver.Faults{Muddle: keyserver.MuddlePayloads, From: 4, Times: 1}},
		{"the first answer twice, once", keyserver.Faults{Muddle: keyserver.MuddleTwice, From: 4, Times: 1}},
		{"garbage once", keyserver.Faults{Garbage: keyserver.GarbageText, Times: 1}},
		{"undecodable items once", keyserver.Faults{Garbage: keyserver.GarbageItems, From: 4, Times: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string) {
				t.Parallel()
				w := newWorld(t)
				var objects []keyserver.Object
				var names []string
				var want []got
				for i := range 20 {
					objects, names = append(objects, object(i)), append(names, keyName(i))
					want = append(want, got{Keys: []string{string(keyValue(i))}, Server: "kms-a"})
				}
				pair := must(w.ca.Server(pki.Options{}, "127.0.0.1"))(t)
				s := must(keyserver.Start(keyserver.Config{
					Name: "kms-a", Kind: kind, Listen: "127.0.0.1:0", CA: string(w.ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key),
					Faults: c.f, Objects: objects,
				}, w.hear))(t)
				t.Cleanup(s.Close)
				cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}, Timing: kmip.Timing{Backoff: time.Millisecond}}
				results := kmip.Fetch(guard(t), cfg, named(names...), nil)
				if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
					t.Errorf("results (-want +got):\n%s", diff)
					i := slices.IndexFunc(results, func(r kmip.Result) bool { return r.Err != nil })
					if i >= 0 {
						t.Error(results[i].Err)
					}
				}
			})
		})
	}
}

// A server closes connections that are idle for a while: the next fetch dials anew, and nobody hears of it.
func TestAServerTiredOfAnIdleConnectionIsNoTrouble(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		t.Parallel()
		w := newWorld(t)
		tired := make(chan struct{}, 100)
		pair := must(w.ca.Server(pki.Options{}, "127.0.0.1"))(t)
		s := must(keyserver.Start(keyserver.Config{
			Name: "kms-a", Kind: kind, Listen: "127.0.0.1:0", CA: string(w.ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key),
			Behaviour: keyserver.Behaviour{IdleClose: 2}, Objects: []keyserver.Object{object(0)},
		}, func(e keyserver.Event) {
			if e.Op == "idle" {
				tired <- struct{}{}
			}
			w.hear(e)
		}))(t)
		t.Cleanup(s.Close)
		c := must(kmip.New(kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}))(t)
		defer c.Close()
		var st story
		for range 2 {
			if diff := cmp.Diff([]got{{Keys: []string{string(keyValue(0))}, Server: "kms-a"}}, outcomes(t, c.Fetch(guard(t), named(keyName(0)), st.hear))); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			select {
			case <-tired:
			case <-guard(t).Done():
				t.Fatal("the server did not get tired")
			}
		}
		if n := w.asked("kms-a"); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
		if failed := append(st.kinds(kmip.Failed), st.kinds(kmip.Waiting)...); len(failed) != 0 {
			t.Errorf("somebody heard of it: %v", failed)
		}
	})
}
