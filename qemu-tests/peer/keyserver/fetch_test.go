package keyserver_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
)

// eachKind runs a test against both servers: one shares a library with the
// client, the other shares nothing.
func eachKind(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{keyserver.KindKMIPGo, keyserver.KindBytes} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

func TestServersInTheFieldAllGiveTheKey(t *testing.T) {
	cases := []struct {
		name  string
		b     keyserver.Behaviour
		bytes bool // only the server of bytes has these manners
	}{
		{"a server with nothing special", keyserver.Behaviour{}, false},
		{"a server that speaks TLS 1.2 only", keyserver.Behaviour{MaxTLS: "1.2"}, false},
		{"a server that wants clientAuth in the certificate", keyserver.Behaviour{RequireEKU: true}, false},
		{"a server that refuses batches", keyserver.Behaviour{BatchLimit: 1}, false},
		{"a server that hangs up at batches", keyserver.Behaviour{BatchLimit: 1, BatchAnswer: "hang-up"}, false},
		{"a server whose answers to batches get too large", keyserver.Behaviour{BatchLimit: 3, BatchAnswer: "too-large"}, false},
		{"a server that takes batches of 5", keyserver.Behaviour{BatchLimit: 5}, false},
		{"a server of KMIP 1.0 to 1.2", keyserver.Behaviour{Versions: []string{"1.2", "1.1", "1.0"}}, false},
		{"a server of KMIP 1.0 that does not know DiscoverVersions", keyserver.Behaviour{Versions: []string{"1.0"}, NoDiscover: true}, false},
		{"a server without DiscoverVersions", keyserver.Behaviour{NoDiscover: true}, false},
		{"a server that tells all attributes or none", keyserver.Behaviour{AllAttributes: true}, false},
		{"a server that hangs up after 3 messages", keyserver.Behaviour{HangUpAfter: 3}, false},
		{"a server that does not repeat the ids of items", keyserver.Behaviour{NoBatchIDs: true}, true},
		{"a server that stops at the first error", keyserver.Behaviour{StopOnError: true}, true},
		{"a server that stops at the first error and repeats no ids", keyserver.Behaviour{StopOnError: true, NoBatchIDs: true}, true},
		{"a server of KMIP 1.0 that hangs up at anything newer", keyserver.Behaviour{Versions: []string{"1.0"}, HangUpOnOldHeader: true}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind string) {
				if c.bytes && kind != keyserver.KindBytes {
					return
				}
				w := newWorld(t)
				var objects []keyserver.Object
				var names []string
				var want []got
				for i := range 20 {
					names = append(names, keyName(i))
					if i == 7 {
						want = append(want, got{Code: kmip.CodeNotFound})
						continue
					}
					objects = append(objects, object(i))
					want = append(want, got{Keys: []string{string(keyValue(i))}, Server: "kms-a"})
				}
				s := w.serve(kind, "kms-a", c.b, objects...)
				var st story
				results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, named(names...), st.hear)
				if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
					t.Errorf("results (-want +got):\n%s", diff)
				}
				tellsNoSecret(t, results, keyValue(0), w.client.Key)
				tellsNoSecret(t, st.events, keyValue(0), w.client.Key)
			})
		})
	}
}

func TestAThousandKeysTakeOneConnectionAndFewMessages(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		const n = 1000
		w := newWorld(t)
		var objects []keyserver.Object
		var names []string
		for i := range n {
			objects, names = append(objects, object(i)), append(names, keyName(i))
		}
		s := w.serve(kind, "kms-a", keyserver.Behaviour{}, objects...)
		results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, named(names...), nil)
		for i, g := range outcomes(t, results) {
			if diff := cmp.Diff(got{Keys: []string{string(keyValue(i))}, Server: "kms-a"}, g); diff != "" {
				t.Fatalf("key %d (-want +got):\n%s", i, diff)
			}
		}
		// DiscoverVersions, then Locate, GetAttributes and Get for each 64 keys.
		want := map[string]int{"accept": 1, "message": 1 + 3*16, "get": n, "attributes": n, "locate": n}
		have := map[string]int{}
		for op := range want {
			have[op] = w.count(op)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("what the server was asked (-want +got):\n%s", diff)
		}
	})
}

func TestAnIdleConnectionThatTheServerClosedIsReplaced(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		s := w.serve(kind, "kms-a", keyserver.Behaviour{}, object(0), object(1))
		c := must(kmip.New(kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}))(t)
		defer c.Close()
		var st story
		want := []got{{Keys: []string{string(keyValue(0))}, Server: "kms-a"}}
		for round := range 3 {
			if diff := cmp.Diff(want, outcomes(t, c.Fetch(guard(t), named(keyName(0)), st.hear))); diff != "" {
				t.Fatalf("round %d (-want +got):\n%s", round, diff)
			}
			if round == 1 {
				s.HangUp()
			}
		}
		if got := w.count("accept"); got != 2 {
			t.Errorf("%d connections, want 2: one, and one after the server hung up", got)
		}
		if failed := st.kinds(kmip.Failed); len(failed) != 0 {
			t.Errorf("a connection closed while idle is no failure of the server: %v", failed)
		}
	})
}

func TestARequestAtWhichTheServerHangsUpCostsNobodyElseTheirKey(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		var objects []keyserver.Object
		var names []string
		var want []got
		for i := range 9 {
			o := object(i)
			g := got{Keys: []string{string(keyValue(i))}, Server: "kms-a"}
			if i == 4 {
				o.HangUp = true
				g = got{Code: kmip.CodeClosed}
			}
			objects, names, want = append(objects, o), append(names, o.Name), append(want, g)
		}
		s := w.serve(kind, "kms-a", keyserver.Behaviour{}, objects...)
		results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, named(names...), nil)
		if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestAnObjectThatCannotBeDecodedCostsNobodyElseTheirKey(t *testing.T) {
	w := newWorld(t)
	var objects []keyserver.Object
	var names []string
	var want []got
	for i := range 70 {
		o := object(i)
		g := got{Keys: []string{string(keyValue(i))}, Server: "kms-a"}
		if i == 30 { // kmip-go knows no plain bytes under format 0
			o.Type, o.Format = "SymmetricKey", "not a format"
			g = got{Code: kmip.CodeProtocol}
		}
		objects, names, want = append(objects, o), append(names, o.Name), append(want, g)
	}
	s := w.serve(keyserver.KindBytes, "kms-a", keyserver.Behaviour{}, objects...)
	var st story
	results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}}, named(names...), st.hear)
	if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if shrunk := st.kinds(kmip.Shrunk); len(shrunk) != 0 {
		t.Errorf("one bad object is no reason to remember a limit: %v", shrunk)
	}
	if n := w.count("accept"); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestALimitOfBatchesIsRememberedOverCalls(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		s := w.serve(kind, "kms-a", keyserver.Behaviour{BatchLimit: 1}, object(0), object(1), object(2), object(3))
		cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}, Health: kmip.Health{}}
		requests := named(keyName(0), keyName(1), keyName(2), keyName(3))
		outcomes(t, kmip.Fetch(guard(t), cfg, requests, cfg.Health.Observe))
		if diff := cmp.Diff(kmip.Health{"kms-a": {Up: true, Batch: 1}}, cfg.Health); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		before := w.count("message")
		outcomes(t, kmip.Fetch(guard(t), cfg, requests, nil))
		if n := w.count("message") - before; n != 1+3*4 {
			t.Errorf("%d messages the second time, want %d: no batch is tried again", n, 1+3*4)
		}
	})
}

func BenchmarkFetch(b *testing.B) {
	for _, kind := range []string{keyserver.KindKMIPGo, keyserver.KindBytes} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/1000 keys by %d", kind, batch), func(b *testing.B) {
				const n = 1000
				w := newWorld(b)
				var objects []keyserver.Object
				var requests []kmip.Request
				for i := range n {
					objects = append(objects, object(i))
					requests = append(requests, kmip.Request{Selector: kmip.Selector{UniqueID: objects[i].ID}})
				}
				s := w.serve(kind, "kms-a", keyserver.Behaviour{}, objects...)
				cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", s.Addr())}, Batch: batch}
				for b.Loop() {
					for _, r := range kmip.Fetch(guard(b), cfg, requests, nil) {
						if r.Err != nil {
							b.Fatal(r.Err)
						}
						for _, k := range r.Keys {
							k.Secret.Destroy()
						}
					}
				}
			})
		}
	}
}
