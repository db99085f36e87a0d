package kmip

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	kmipgo "github.com/ovh/kmip-go"
)

func (n *network) resolve(_ context.Context, _, name string) ([]netip.Addr, error) {
	addrs, ok := n.names[name]
	if !ok {
		return nil, fmt.Errorf("no such name")
	}
	var out []netip.Addr
	for _, a := range addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

// want one key by id within a minute of virtual time.
func fetchOne(t *testing.T, c *Client, within time.Duration, progress Progress) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	r := c.Fetch(ctx, []Request{{Selector: Selector{UniqueID: "k"}}}, progress)[0]
	for _, k := range r.Keys {
		if string(k.Secret.Bytes()) != "k" {
			t.Errorf("a wrong key came")
		}
		k.Secret.Destroy()
	}
	return r
}

func TestTheSecondServerIsDialledOneSecondAfterASilentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["192.0.2.21:5696"] = dropping
		n.hosts["192.0.2.22:5696"] = n.keyServer(nil)
		cfg := n.config("kms-a", "192.0.2.21:5696", "kms-b", "192.0.2.22:5696")
		cfg.Timing.Attempt = 5 * time.Second // so that it is silence that counts here, not a failure
		c := n.client(cfg)
		defer c.Close()
		var story []string
		r := fetchOne(t, c, time.Minute, func(e Event) { story = append(story, e.String()) })
		if r.Err != nil || r.Server != "kms-b" {
			t.Errorf("result %+v", r)
		}
		want := []string{
			"dialled kms-a",
			"dialled kms-b 1.0 s after kms-a",
			"connected to kms-b (192.0.2.22:5696), TLS 1.3, KMIP 1.4",
			"kms-a (192.0.2.21:5696): no answer for 1.0 s, kms-b answered first",
			"kms-b (192.0.2.22:5696): 1 found, 0 not",
		}
		if diff := cmp.Diff(want, story); diff != "" {
			t.Errorf("story (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]dialed{{"192.0.2.21:5696", 0}, {"192.0.2.22:5696", time.Second}}, n.dials); diff != "" {
			t.Errorf("dials (-want +got):\n%s", diff)
		}
	})
}

func TestAttemptsAreCappedAndPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["192.0.2.21:5696"] = n.from(20*time.Second, dropping, n.keyServer(nil))
		c := n.client(n.config("kms-a", "192.0.2.21:5696"))
		defer c.Close()
		if r := fetchOne(t, c, time.Minute, nil); r.Err != nil {
			t.Fatal(r.Err)
		}
		var at []time.Duration
		for _, d := range n.dials {
			at = append(at, d.At)
		}
		// 1 s of an attempt, and pauses of 250 ms, 500 ms, 1 s, 1 s …
		want := []time.Duration{0, 1250 * time.Millisecond, 2750 * time.Millisecond}
		for next := 4750 * time.Millisecond; ; next += 2 * time.Second {
			want = append(want, next)
			if next >= 20*time.Second {
				break
			}
		}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("dials (-want +got):\n%s", diff)
		}
	})
}

func TestAfterTheFirstMinuteThePaceIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["192.0.2.21:5696"] = n.from(5*time.Minute, dropping, n.keyServer(nil))
		c := n.client(n.config("kms-a", "192.0.2.21:5696"))
		defer c.Close()
		if r := fetchOne(t, c, time.Hour, nil); r.Err != nil {
			t.Fatal(r.Err)
		}
		late := 0
		for i, d := range n.dials[1:] {
			if n.dials[i].At < 2*time.Minute {
				continue
			}
			late++
			if gap := d.At - n.dials[i].At; gap != 15*time.Second {
				t.Errorf("dial at %s comes %s after the one before, want 5 s of an attempt and 10 s of a pause", d.At, gap)
			}
		}
		if late < 10 {
			t.Errorf("%d late dials", late)
		}
	})
}

func TestEveryAddressOfANameIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.names = map[string][]string{"kms": {"2001:db8::21", "192.0.2.21", "192.0.2.21", "::ffff:192.0.2.21", "192.0.2.22"}}
		n.hosts["[2001:db8::21]:5696"] = dropping
		n.hosts["192.0.2.22:5696"] = n.keyServer(nil)
		c := n.client(n.config("kms-a", "kms"))
		defer c.Close()
		r := fetchOne(t, c, time.Minute, nil)
		if r.Err != nil || r.Address != "192.0.2.22:5696" {
			t.Errorf("result %+v", r)
		}
		want := []dialed{{"[2001:db8::21]:5696", 0}, {"192.0.2.21:5696", 250 * time.Millisecond}, {"192.0.2.22:5696", 250 * time.Millisecond}}
		if diff := cmp.Diff(want, n.dials); diff != "" {
			t.Errorf("dials (-want +got):\n%s", diff)
		}
	})
}

func TestANameWithoutAddressIsAReasonToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.client(n.config("kms-a", "kms.example.net"))
		defer c.Close()
		r := fetchOne(t, c, 3*time.Second, nil)
		want := `get key "k" from kms-a (kms.example.net): cannot resolve kms.example.net: no such name`
		if r.Err == nil || r.Err.Code != CodeResolve || r.Err.Error() != want {
			t.Errorf("error %v, want %s", r.Err, want)
		}
	})
}

func TestAServerThatStopsAnsweringLosesItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["192.0.2.21:5696"] = n.keyServer(func(r *kmipgo.RequestMessage) bool { return r.BatchItem[0].Operation != kmipgo.OperationGet })
		n.hosts["192.0.2.22:5696"] = n.keyServer(nil)
		c := n.client(n.config("kms-a", "192.0.2.21:5696", "kms-b", "192.0.2.22:5696"))
		defer c.Close()
		r := fetchOne(t, c, 5*time.Minute, nil)
		if r.Err != nil || r.Server != "kms-b" {
			t.Errorf("result %+v", r)
		}
		// 30 s of an answer that does not come; what the server said before is progress, so nobody pauses.
		if took := time.Since(n.started); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestTheEndOfTheContextEndsEverything(t *testing.T) {
	for _, h := range []string{"dropping", "mute", "refusing"} {
		t.Run(h, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				switch h {
				case "dropping":
					n.hosts["192.0.2.21:5696"] = dropping
				case "mute":
					n.hosts["192.0.2.21:5696"] = n.keyServer(func(*kmipgo.RequestMessage) bool { return false })
				}
				c := n.client(n.config("kms-a", "192.0.2.21:5696", "kms-b", "192.0.2.22:5696"))
				defer c.Close()
				r := fetchOne(t, c, 2300*time.Millisecond, nil)
				if r.Err == nil || !r.Err.Retryable {
					t.Errorf("result %+v", r)
				}
				if took := time.Since(n.started); took != 2300*time.Millisecond {
					t.Errorf("it took %s", took)
				}
				t.Log(r.Err)
			})
		})
	}
}

func TestAKeyThatIsHereWaitsForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["192.0.2.21:5696"] = n.keyServer(nil)
		cfg := n.config("kms-a", "192.0.2.21:5696", "blue", "192.0.2.22:5696")
		cfg.Servers[1].Group = "blue"
		c := n.client(cfg)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		at := map[string]time.Duration{}
		c.FetchEach(ctx, []Request{{Selector: Selector{UniqueID: "theirs"}, Group: "blue"}, {Selector: Selector{UniqueID: "ours"}}}, nil, func(i int, r Result) {
			at[r.Request] = time.Since(n.started)
			for _, k := range r.Keys {
				k.Secret.Destroy()
			}
		})
		if diff := cmp.Diff(map[string]time.Duration{"ours": 0, "theirs": time.Minute}, at); diff != "" {
			t.Errorf("results came at (-want +got):\n%s", diff)
		}
	})
}

func TestAServerThatHungUpIsDialledBeforeOneThatNeverSpoke(t *testing.T) {
	h := Health{}
	h.Observe(Event{Kind: Failed, Server: "never"})
	h.Observe(Event{Kind: Connected, Server: "hung-up"})
	h.Observe(Event{Kind: Failed, Server: "hung-up", Lost: true})
	h.Observe(Event{Kind: Connected, Server: "well"})
	var list []*endpoint
	for _, name := range []string{"never", "hung-up", "unknown", "well"} {
		list = append(list, &endpoint{server: Server{Name: name}})
	}
	var got []string
	for _, e := range h.order(list) {
		got = append(got, e.server.Name)
	}
	if diff := cmp.Diff([]string{"well", "unknown", "hung-up", "never"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
