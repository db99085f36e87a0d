package keyserver_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
)

// world is a CA, a client certificate, servers on loopback, and what they were asked.
type world struct {
	t      testing.TB
	ca     *pki.CA
	client *pki.Pair

	mu     sync.Mutex
	events []keyserver.Event // guarded by mu
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ca := must(pki.NewCA("test CA", pki.Options{}))(t)
	return &world{t: t, ca: ca, client: must(ca.Client(pki.Options{}, "store-07"))(t)}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// serve starts a server that ends with the test.
func (w *world) serve(kind, name string, b keyserver.Behaviour, objects ...keyserver.Object) *keyserver.Server {
	w.t.Helper()
	return w.serveAs(must(w.ca.Server(pki.Options{}, "127.0.0.1", "kms.example.net"))(w.t), kind, name, b, objects...)
}

func (w *world) serveAs(pair *pki.Pair, kind, name string, b keyserver.Behaviour, objects ...keyserver.Object) *keyserver.Server {
	w.t.Helper()
	s := must(keyserver.Start(keyserver.Config{
		Name: name, Kind: kind, Listen: "127.0.0.1:0",
		CA: string(w.ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key),
		Behaviour: b, Objects: objects,
	}, w.hear))(w.t)
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) hear(e keyserver.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// count is how often servers were asked something.
func (w *world) count(op string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Op == op {
			n++
		}
	}
	return n
}

// at describes how to reach a server.
func (w *world) at(name, address string) kmip.Server {
	return kmip.Server{Name: name, Address: address, TLS: kmip.TLS{
		CA: kmip.Source{PEM: string(w.ca.PEM)}, Cert: kmip.Source{PEM: string(w.client.Cert)}, Key: kmip.KeySource{PEM: w.client.Key},
	}}
}

func object(i int) keyserver.Object {
	return keyserver.Object{ID: fmt.Sprintf("id-%d", i), Name: keyName(i), Value: hex.EncodeToString(keyValue(i)), Initial: int64(1700000000 + i)}
}

func keyName(i int) string { return fmt.Sprintf("store-07/tank%d", i) }

func keyValue(i int) []byte { return fmt.Appendf(nil, "the key of tank %06d: 32 bytes..", i) }

func named(names ...string) []kmip.Request {
	var out []kmip.Request
	for _, n := range names {
		out = append(out, kmip.Request{ID: n, Selector: kmip.Selector{Name: n}})
	}
	return out
}

// guard bounds a test that hangs.
func guard(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// got is what tests compare of a result: the keys themselves, or the code of the error.
type got struct {
	Keys   []string
	Server string
	Code   kmip.Code
}

func outcomes(t testing.TB, results []kmip.Result) []got {
	t.Helper()
	var out []got
	for _, r := range results {
		g := got{Server: r.Server}
		if r.Err != nil {
			g.Code = r.Err.Code
		}
		for _, k := range r.Keys {
			g.Keys = append(g.Keys, string(k.Secret.Bytes()))
			k.Secret.Destroy()
		}
		out = append(out, g)
	}
	return out
}

// story records events, and checks that none of them tells a key.
type story struct {
	mu     sync.Mutex
	events []kmip.Event // guarded by mu
}

func (s *story) hear(e kmip.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *story) kinds(k kmip.Kind) []kmip.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []kmip.Event
	for _, e := range s.events {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

// tellsNoSecret fails if a value, printed or marshalled, holds one of the keys.
func tellsNoSecret(t testing.TB, v any, secrets ...[]byte) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", v, v, v)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if len(s) == 0 {
			continue
		}
		for _, form := range [][]byte{s, []byte(hex.EncodeToString(s))} {
			if bytes.Contains([]byte(text), form) || bytes.Contains(data, form) {
				t.Errorf("a secret is told by %T", v)
			}
		}
	}
}
