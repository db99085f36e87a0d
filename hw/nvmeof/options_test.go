package nvmeof

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"initd/hw/secret"
	"initd/hw/secret/secrettest"
)

func host() Host { return HostOf("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5") }

func target(nqn, addr string) Target { return Target{NQN: nqn, Addr: netip.MustParseAddrPort(addr)} }

// good is a secret as nvme gen-dhchap-key makes it: of 32 bytes 0, 1, 2 …, with their CRC-32.
const good = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"

func TestWhatTheKernelIsTold(t *testing.T) {
	const who = ",hostnqn=nqn.2014-08.org.nvmexpress:uuid:6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5,hostid=6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
	for _, row := range []struct {
		name string
		r    Request
		want string
	}{
		{"nothing beyond the target and the host", Request{Target: target("nqn.x:a", "192.0.2.40:4420")},
			"transport=tcp,nqn=nqn.x:a,traddr=192.0.2.40,trsvcid=4420" + who},
		{"a disk that must never fail, by IPv6", Request{Target: target("nqn.x:a", "[2001:db8::40]:4421"), Options: Steadfast()},
			"transport=tcp,nqn=nqn.x:a,traddr=2001:db8::40,trsvcid=4421" + who + ",keep_alive_tmo=5,reconnect_delay=2,ctrl_loss_tmo=-1"},
		{"everything at once", Request{
			Target: Target{NQN: "nqn.x:a", Addr: netip.MustParseAddrPort("192.0.2.40:4420"), HostAddr: netip.MustParseAddr("192.0.2.1"), HostIface: "eth1"},
			Options: Options{Queues: 4, WriteQueues: 2, PollQueues: 1, QueueSize: 1024, KeepAlive: 7 * time.Second, ReconnectDelay: 3 * time.Second,
				CtrlLoss: time.Minute, FastIOFail: 5 * time.Second, HeaderDigest: true, DataDigest: true, TOS: 184, TLS: true, Keyring: 77, TLSKey: 78},
			Secret: secrettest.Buffer(t, good+"\n"), CtrlSecret: secrettest.Buffer(t, good)},
			"transport=tcp,nqn=nqn.x:a,traddr=192.0.2.40,trsvcid=4420" + who + ",host_traddr=192.0.2.1,host_iface=eth1" +
				",nr_io_queues=4,nr_write_queues=2,nr_poll_queues=1,keep_alive_tmo=7,queue_size=1024,reconnect_delay=3,ctrl_loss_tmo=60,fast_io_fail_tmo=5" +
				",hdr_digest,data_digest,tos=184,tls,keyring=77,tls_key=78,dhchap_secret=" + good + ",dhchap_ctrl_secret=" + good},
		{"a discovery controller for one question has no keep-alive and no queues", Request{Target: target(DiscoveryNQN, "192.0.2.40:8009"), Options: Options{Queues: 4, KeepAlive: time.Second}},
			"transport=tcp,nqn=" + DiscoveryNQN + ",traddr=192.0.2.40,trsvcid=8009" + who},
		{"one that is kept notices when its target is gone", Request{Target: target(DiscoveryNQN, "192.0.2.40:8009"), Lasting: true},
			"transport=tcp,nqn=" + DiscoveryNQN + ",traddr=192.0.2.40,trsvcid=8009" + who + ",keep_alive_tmo=30"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.r.Host = host()
			b, err := row.r.encode()
			if err != nil {
				t.Fatal(err)
			}
			defer b.Destroy()
			if got := string(b.Bytes()); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func TestWhatTheKernelIsNeverTold(t *testing.T) {
	ok := target("nqn.x:a", "192.0.2.40:4420")
	change := func(f func(*Request)) Request {
		r := Request{Target: ok, Host: host()}
		f(&r)
		return r
	}
	for _, row := range []struct {
		name string
		r    Request
		want string
	}{
		{"an option smuggled into a name", change(func(r *Request) { r.NQN = "nqn.x:a,hostnqn=nqn.y" }), "cannot be told to the kernel"},
		{"a line break in a name", change(func(r *Request) { r.NQN = "nqn.x:a\nnqn=b" }), "cannot be told to the kernel"},
		{"a name that is too long", change(func(r *Request) { r.NQN = "nqn." + strings.Repeat("x", 219) }), "223 bytes, the kernel takes 222"},
		{"no address", change(func(r *Request) { r.Addr = netip.AddrPort{} }), "no address with a port"},
		{"an address of nobody", change(func(r *Request) { r.Addr = netip.MustParseAddrPort("0.0.0.0:4420") }), "nothing can be connected to"},
		{"families that differ", change(func(r *Request) { r.HostAddr = netip.MustParseAddr("2001:db8::1") }), "the families differ"},
		{"an interface with a comma", change(func(r *Request) { r.HostIface = "eth0,tls" }), "is no interface"},
		{"a host without an ID", change(func(r *Request) { r.Host.ID = "" }), "is no UUID"},
		{"a host whose ID is all zeros", change(func(r *Request) { r.Host.ID = "00000000-0000-0000-0000-000000000000" }), "is no UUID that can tell machines apart"},
		{"a queue that is too long", change(func(r *Request) { r.Options.QueueSize = 1025 }), "takes 16 to 1024"},
		{"half a second", change(func(r *Request) { r.Options.ReconnectDelay = 500 * time.Millisecond }), "whole seconds"},
		{"a key for TLS without TLS", change(func(r *Request) { r.Options.TLSKey = 5 }), "TLS is not asked for"},
		{"a secret that is none", change(func(r *Request) { r.Secret = secrettest.Buffer(t, "hunter2") }), "does not begin with DHHC-1:"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, err := row.r.encode()
			if err == nil {
				b.Destroy()
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %q, want it to say %q", err, row.want)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"as it is printed", good, ""},
		{"with a line break behind it", good + "\n", ""},
		{"nothing but blanks", "  \n", "it is empty"},
		{"a character changed", strings.Replace(good, "AAECAw", "AAECAx", 1), "its checksum does not match"},
		{"cut off", good[:30], "does not end in a colon"},
		{"a part of it missing", "DHHC-1:00:AAECAwQF:", "not 32, 48 or 64"},
		{"another form", "NVMeTLSkey-1:01:AAAA:", "does not begin with DHHC-1:"},
		{"an unknown transformation", strings.Replace(good, ":00:", ":04:", 1), "stand 00, 01, 02 or 03"},
		{"a transformation of another length", strings.Replace(good, ":00:", ":03:", 1), "03 is for 64"},
		{"no base64", "DHHC-1:00:****************:", "not in base64"},
		{"no key at all", "DHHC-1:00::", "no key"},
		{"far too long", "DHHC-1:00:" + strings.Repeat("A", 200) + ":", "more than any has"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := CheckSecret(secrettest.Buffer(t, row.text))
			var s *SecretError
			switch {
			case row.want == "" && err != nil, row.want != "" && !errors.As(err, &s):
				t.Fatalf("got %v", err)
			case row.want != "" && !strings.Contains(err.Error(), row.want):
				t.Errorf("got %q, want it to say %q", err, row.want)
			}
		})
	}
}

func FuzzSecret(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("DHHC-1:01:" + strings.Repeat("A", 48) + ":"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 || len(text) > 4096 {
			return
		}
		b, err := secret.From(append([]byte(nil), text...)) // From wipes what it is given
		if err != nil {
			t.Fatal(err)
		}
		defer b.Destroy()
		if got, err := CheckSecret(b); err == nil && (strings.ContainsAny(string(got), ",\n\x00") || !strings.HasPrefix(string(got), "DHHC-1:0")) {
			t.Errorf("%q was taken", got)
		}
	})
}

func TestPlaces(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"192.0.2.40", "192.0.2.40:4420"},
		{"192.0.2.40:4421", "192.0.2.40:4421"},
		{"tcp://192.0.2.40", "192.0.2.40:4420"},
		{"tcp://[2001:db8::1]:8009/", "[2001:db8::1]:8009"},
		{"2001:db8::1", "[2001:db8::1]:4420"},
		{"[2001:db8::1]", "[2001:db8::1]:4420"},
		{"[fe80::1%eth0]:4420", "[fe80::1%eth0]:4420"},
		{"store.example.net", ""}, {"rdma://192.0.2.40", ""}, {"192.0.2.40:0", ""}, {"192.0.2.40:99999", ""}, {"", ""}, {"tcp://", ""},
	} {
		got, err := ParsePlace(row.text, Port)
		if (err == nil) != (row.want != "") || err == nil && got.String() != row.want {
			t.Errorf("%q: got %v, %v, want %q", row.text, got, err, row.want)
		}
	}
}
