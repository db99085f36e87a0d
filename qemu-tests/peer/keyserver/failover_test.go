package keyserver_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
)

// free gives an address on which nobody listens.
func free(t testing.TB) string {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	return ln.Addr().String()
}

func lines(events []kmip.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.String())
	}
	return out
}

func TestTheSecondServerIsDialledAtOnceWhenTheFirstRefuses(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		dead := free(t)
		s := w.serve(kind, "kms-b", keyserver.Behaviour{}, object(0))
		cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", dead), w.at("kms-b", s.Addr())}, Timing: kmip.Timing{Stagger: time.Hour}}
		c := must(kmip.New(cfg))(t)
		defer c.Close()
		var st story
		want := []got{{Keys: []string{string(keyValue(0))}, Server: "kms-b"}}
		if diff := cmp.Diff(want, outcomes(t, c.Fetch(guard(t), named(keyName(0)), st.hear))); diff != "" {
			t.Fatalf("result (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"dialled kms-a", "kms-a (" + dead + "): connection refused"}, lines(st.events)[:2]); diff != "" {
			t.Errorf("story (-want +got):\n%s", diff)
		}
		// The healthy one is first from now on, and its connection is still there.
		s.HangUp()
		var again story
		if diff := cmp.Diff(want, outcomes(t, c.Fetch(guard(t), named(keyName(0)), again.hear))); diff != "" {
			t.Fatalf("second result (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"dialled kms-b"}, lines(again.kinds(kmip.Dialling))); diff != "" {
			t.Errorf("dials of the second fetch (-want +got):\n%s", diff)
		}
	})
}

func TestASilentServerCostsOneStaggerAndIsLastTheNextTime(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		mute := w.serve(kind, "kms-a", keyserver.Behaviour{Silent: true})
		s := w.serve(kind, "kms-b", keyserver.Behaviour{}, object(0))
		cfg := kmip.Config{
			Servers: []kmip.Server{w.at("kms-a", mute.Addr()), w.at("kms-b", s.Addr())},
			Timing:  kmip.Timing{Stagger: 50 * time.Millisecond},
			Health:  kmip.Health{},
		}
		var st story
		hear := func(e kmip.Event) { cfg.Health.Observe(e); st.hear(e) }
		want := []got{{Keys: []string{string(keyValue(0))}, Server: "kms-b"}}
		if diff := cmp.Diff(want, outcomes(t, kmip.Fetch(guard(t), cfg, named(keyName(0)), hear))); diff != "" {
			t.Fatalf("result (-want +got):\n%s", diff)
		}
		if d := st.kinds(kmip.Dialling); len(d) != 2 || d[1].Previous != "kms-a" || d[1].After < 50*time.Millisecond {
			t.Errorf("dials: %v", d)
		}
		if diff := cmp.Diff(kmip.Health{"kms-a": {Down: true}, "kms-b": {Up: true}}, cfg.Health); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
	})
}

func TestALateServerIsAwaitedAndTheWaitHasAReason(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		address := free(t)
		ctx, cancel := context.WithCancel(guard(t))
		defer cancel()
		started := make(chan struct{})
		var st story
		hear := func(e kmip.Event) {
			st.hear(e)
			if e.Kind == kmip.Waiting && len(st.kinds(kmip.Waiting)) == 2 { // it has been awaited for a while
				go func() {
					defer close(started)
					cfg := keyserver.Config{Name: "kms-a", Kind: kind, Listen: address, Objects: []keyserver.Object{object(0)}}
					pair := must(w.ca.Server(pki.Options{}, "127.0.0.1"))(t)
					cfg.CA, cfg.Cert, cfg.Key = string(w.ca.PEM), string(pair.Cert), string(pair.Key)
					s, err := keyserver.Start(cfg, w.hear)
					if err != nil {
						t.Error(err)
						cancel()
						return
					}
					t.Cleanup(s.Close)
				}()
			}
		}
		results := kmip.Fetch(ctx, kmip.Config{Servers: []kmip.Server{w.at("kms-a", address)}}, named(keyName(0)), hear)
		<-started
		if diff := cmp.Diff([]got{{Keys: []string{string(keyValue(0))}, Server: "kms-a"}}, outcomes(t, results)); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"kms-a (" + address + "): connection refused"}, st.kinds(kmip.Waiting)[0].Reasons); diff != "" {
			t.Errorf("reasons (-want +got):\n%s", diff)
		}
	})
}

func TestWhenTheTimeIsOverTheLastReasonsAreTold(t *testing.T) {
	w := newWorld(t)
	a, b := free(t), free(t)
	ctx, cancel := context.WithCancel(guard(t))
	defer cancel()
	hear := func(e kmip.Event) {
		if e.Kind == kmip.Waiting {
			cancel()
		}
	}
	err := kmip.Fetch(ctx, kmip.Config{Servers: []kmip.Server{w.at("kms-a", a), w.at("kms-b", b)}}, named("k"), hear)[0].Err
	want := `get key "k": kms-a (` + a + `): connection refused; kms-b (` + b + `): connection refused`
	if err == nil || err.Code != kmip.CodeDial || !err.Retryable || err.Error() != want {
		t.Errorf("error\n%v, want\n%s", err, want)
	}
}

func TestAKeyThatOneServerLacksComesFromTheOther(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		a := w.serve(kind, "kms-a", keyserver.Behaviour{}, object(0))
		denied := object(2)
		denied.Denied = true
		b := w.serve(kind, "kms-b", keyserver.Behaviour{}, object(1), denied)
		cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", a.Addr()), w.at("kms-b", b.Addr())}}
		results := kmip.Fetch(guard(t), cfg, named(keyName(0), keyName(1), keyName(2), keyName(3)), nil)
		want := []got{
			{Keys: []string{string(keyValue(0))}, Server: "kms-a"},
			{Keys: []string{string(keyValue(1))}, Server: "kms-b"},
			{Code: kmip.CodeDenied},
			{Code: kmip.CodeNotFound},
		}
		if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if text := results[3].Err.Error(); !strings.Contains(text, "kms-a") || !strings.Contains(text, "kms-b") {
			t.Errorf("the error tells of one server only: %s", text)
		}
	})
}

func TestAKeyThatOneServerLacksDoesNotWaitForADeadOne(t *testing.T) {
	w := newWorld(t)
	a := w.serve(keyserver.KindBytes, "kms-a", keyserver.Behaviour{}, object(0))
	cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", a.Addr()), w.at("kms-b", free(t))}}
	results := kmip.Fetch(guard(t), cfg, named(keyName(0), keyName(1)), nil)
	want := []got{{Keys: []string{string(keyValue(0))}, Server: "kms-a"}, {Code: kmip.CodeNotFound}}
	if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if err := results[1].Err; !err.Retryable || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("the dead server may have it, so it is worth another try: %v", err)
	}
}

func TestGroupsKeepTenantsApart(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		ours := keyserver.Object{ID: "1", Name: "k", Value: "6f757273"}
		theirs := keyserver.Object{ID: "1", Name: "k", Value: "746865697273"}
		a := w.serve(kind, "kms-a", keyserver.Behaviour{}, ours)
		b := w.serve(kind, "blue", keyserver.Behaviour{}, theirs)
		blue := w.at("blue", b.Addr())
		blue.Group = "blue"
		requests := []kmip.Request{{ID: "1", Selector: kmip.Selector{Name: "k"}}, {ID: "2", Group: "blue", Selector: kmip.Selector{Name: "k"}}}
		results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{w.at("kms-a", a.Addr()), blue}}, requests, nil)
		want := []got{{Keys: []string{"ours"}, Server: "kms-a"}, {Keys: []string{"theirs"}, Server: "blue"}}
		if diff := cmp.Diff(want, outcomes(t, results)); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestAServerThatEndsInMidBatchIsReplacedByTheNext(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		var objects []keyserver.Object
		var names []string
		for i := range 200 {
			objects, names = append(objects, object(i)), append(names, keyName(i))
		}
		// DiscoverVersions, and one round of Locate, GetAttributes, Get: then it is gone for good.
		a := w.serve(kind, "kms-a", keyserver.Behaviour{HangUpAfter: 4}, objects...)
		b := w.serve(kind, "kms-b", keyserver.Behaviour{}, objects...)
		hear := func(e kmip.Event) {
			if e.Kind == kmip.Failed && e.Server == "kms-a" {
				go a.Close()
			}
		}
		cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", a.Addr()), w.at("kms-b", b.Addr())}}
		var from []string
		for i, g := range outcomes(t, kmip.Fetch(guard(t), cfg, named(names...), hear)) {
			if diff := cmp.Diff([]string{string(keyValue(i))}, g.Keys); diff != "" {
				t.Fatalf("key %d (-want +got):\n%s", i, diff)
			}
			from = append(from, g.Server)
		}
		if got := slices.Compact(from); !slices.Equal(got, []string{"kms-a", "kms-b"}) {
			t.Errorf("keys came from %v", got)
		}
		if n := w.count("get"); n != 200 {
			t.Errorf("%d keys were got, want 200: none twice", n)
		}
	})
}

func TestACheckAsksEveryServerAndFetchesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		a := w.serve(kind, "kms-a", keyserver.Behaviour{Vendor: "ACME"}, object(0), object(1))
		b := w.serve(kind, "kms-b", keyserver.Behaviour{}, object(0))
		dead := free(t)
		cfg := kmip.Config{Servers: []kmip.Server{w.at("kms-a", a.Addr()), w.at("kms-b", b.Addr()), w.at("kms-c", dead)}}
		report := must(kmip.Check(guard(t), cfg, named(keyName(0), keyName(1), keyName(2))))(t)
		type seen struct {
			Found  bool
			Places []string
			Codes  []kmip.Code
		}
		var have []seen
		for _, k := range report.Keys {
			s := seen{Found: k.Found}
			for _, p := range k.Places {
				s.Places = append(s.Places, p.Server)
			}
			for _, e := range k.Errors {
				s.Codes = append(s.Codes, e.Code)
			}
			have = append(have, s)
		}
		want := []seen{
			{true, []string{"kms-a", "kms-b"}, []kmip.Code{kmip.CodeDial}},
			{true, []string{"kms-a"}, []kmip.Code{kmip.CodeNotFound, kmip.CodeDial}},
			{false, nil, []kmip.Code{kmip.CodeNotFound, kmip.CodeNotFound, kmip.CodeDial}},
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
		if n := w.count("get"); n != 0 {
			t.Errorf("%d keys were got", n)
		}
		if n := w.count("accept"); n != 2 {
			t.Errorf("%d connections to two servers: the probe's is not used again", n)
		}
		if report.OK() || report.Servers[0].Vendor != "ACME" {
			t.Errorf("report %+v", report)
		}
		tellsNoSecret(t, report, keyValue(0), w.client.Key)
	})
}
