package iscsi

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/iscsi/iscsitest"
	"initd/hw/secret"
	"initd/hw/secret/secrettest"
)

func TestCHAP(t *testing.T) {
	const secret1, secret2 = "one secret of ours", "another of theirs"
	server := iscsitest.CHAP{User: "store-07", Secret: secret1, MutualUser: "target", MutualSecret: secret2}
	with := func(change func(*iscsitest.CHAP)) *iscsitest.CHAP {
		s := server
		change(&s)
		return &s
	}
	type us struct{ user, secret, mutual, name string }
	oneWay, mutual := us{"store-07", secret1, "", ""}, us{"store-07", secret1, secret2, "target"}
	for _, tc := range []struct {
		name   string
		server *iscsitest.CHAP
		us     us
		want   string // code, or "" for a login
	}{
		{"one way", &server, oneWay, ""},
		{"both ways", &server, mutual, ""},
		{"both ways, any name", &server, us{"store-07", secret1, secret2, ""}, ""},
		{"another secret", &server, us{"store-07", "no", "", ""}, "ISCSI-AUTH"},
		{"another user", &server, us{"store-08", secret1, "", ""}, "ISCSI-AUTH"},
		{"another mutual secret", &server, us{"store-07", secret1, "no", ""}, "ISCSI-MUTUAL"},
		{"the target has another name", &server, us{"store-07", secret1, secret2, "other"}, "ISCSI-MUTUAL"},
		{"the target proves nothing", with(func(s *iscsitest.CHAP) { s.NoProof = true }), mutual, "ISCSI-MUTUAL"},
		{"the target's proof is wrong", with(func(s *iscsitest.CHAP) { s.WrongProof = true }), mutual, "ISCSI-MUTUAL"},
		{"the target reflects our response", with(func(s *iscsitest.CHAP) { s.Reflect = true }), mutual, "ISCSI-MUTUAL"},
		{"the target wants no authentication and has to prove itself", nil, mutual, "ISCSI-MUTUAL"},
		{"the target wants no authentication and need not", nil, oneWay, ""},
		{"the same secret for both directions", &server, us{"store-07", secret1, secret1, ""}, "ISCSI-CONFIG"},
		{"no user", &server, us{"", secret1, "", ""}, "ISCSI-CONFIG"},
		{"an algorithm that was not offered", with(func(s *iscsitest.CHAP) { s.Algorithm = "4" }), oneWay, "ISCSI-PROTOCOL"},
		{"an empty challenge", with(func(s *iscsitest.CHAP) { s.Challenge = "0x" }), oneWay, "ISCSI-PROTOCOL"},
		{"a challenge of 2 KiB", with(func(s *iscsitest.CHAP) { s.Challenge = "0x" + strings.Repeat("ab", 2048) }), oneWay, "ISCSI-PROTOCOL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, srv, err := discover(t, iscsitest.Script{CHAP: tc.server, Targets: twoTargets}, func(d *Discovery) {
				d.CHAP = &CHAP{User: tc.us.user, Secret: secrettest.Buffer(t, tc.us.secret), MutualUser: tc.us.name}
				if tc.us.mutual != "" {
					d.CHAP.Mutual = secrettest.Buffer(t, tc.us.mutual)
				}
			})
			got := ""
			if err != nil {
				got = code(err)
			}
			if got != tc.want {
				t.Fatalf("got %q, want %q: %v", got, tc.want, err)
			}
			for _, r := range srv.Requests() {
				if strings.Contains(r.Text, secret1) || strings.Contains(r.Text, secret2) {
					t.Errorf("a secret went over the wire: %q", r.Text)
				}
			}
			if err != nil && (strings.Contains(err.Error(), secret1) || strings.Contains(err.Error(), secret2)) {
				t.Errorf("a secret stands in the error: %v", err)
			}
		})
	}
}

func TestEveryAlgorithmOfCHAPWorksBothWays(t *testing.T) {
	for number, name := range map[string]string{"5": "md5", "6": "sha1", "7": "sha256", "8": "sha3-256"} {
		server := &iscsitest.CHAP{User: "u", Secret: "s", MutualUser: "t", MutualSecret: "m"}
		_, srv, err := discover(t, iscsitest.Script{CHAP: server}, func(d *Discovery) {
			d.CHAP = &CHAP{User: "u", Secret: secrettest.Buffer(t, "s"), Mutual: secrettest.Buffer(t, "m"), Algorithms: []string{name}}
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.ContainsFunc(srv.Requests(), func(r iscsitest.Request) bool { return r.Text == "CHAP_A="+number+"\x00" }) {
			t.Errorf("%s was not offered alone", name)
		}
	}
}

// The values are what md5sum, sha1sum, sha256sum and openssl dgst -sha3-256 print of the byte 1, "secret" and the byte 2.
func TestResponsesAreWhatOtherToolsCompute(t *testing.T) {
	for name, want := range map[string]string{
		"md5":      "0x26e2404abf0a021266913811ae589855",
		"sha1":     "0x04e6caa1dc13b98d655d7d1f79ea0da0d231469f",
		"sha256":   "0x1f3e2835938e3e99b74b4c3f035673a2ac9df67272952f3efc2833ddd460227f",
		"sha3-256": "0x96b3949ed93a57bacb4351c4128b26056628a3760978115167f0d1d5097d25a1",
	} {
		x := newCHAPExchange(&CHAP{User: "u", Secret: secrettest.Buffer(t, "secret")})
		x.algorithm = chapNumber(name)
		if got := hexValue(x.respond(1, x.c.Secret, []byte{2})); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestOwnChallengeDiffersFromTheTargets(t *testing.T) {
	x := newCHAPExchange(&CHAP{User: "u", Secret: secrettest.Buffer(t, "s"), Mutual: secrettest.Buffer(t, "m")})
	theirs := bytes.Repeat([]byte{7}, 32)
	calls := 0
	x.random = func(b []byte) { // the first is what the target sent
		copy(b, theirs)
		b[0] += byte(calls)
		calls++
	}
	list, err := x.answer(map[string]string{keyCHAPAlgorithm: "7", keyCHAPIdent: "255", keyCHAPChallenge: hexValue(theirs)})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(x.challenge, theirs) || calls != 2 || x.ident == 255 {
		t.Errorf("challenge %x, identifier %d, %d draws: %v", x.challenge, x.ident, calls, list)
	}
}

func TestBinaryValuesAreReadInAllThreeForms(t *testing.T) {
	for in, want := range map[string]string{
		"0x0a0b": "\x0a\x0b", "0Xabc": "\x0a\xbc", "0bCgs=": "\x0a\x0b", "2571": "\x0a\x0b",
		"": "", "0x": "", "0xzz": "", "0b???": "", "-1": "", "+1": "", "0": "",
	} {
		got, ok := binaryValue(in, 16)
		if string(got) != want && ok || ok != (want != "") {
			t.Errorf("%q: got %x, %v", in, got, ok)
		}
	}
}

// normal runs a login to a target against a script, and returns what was agreed.
func normal(t *testing.T, s Settings, script iscsitest.Script) (loginResult, error) {
	t.Helper()
	m, err := newMachine(request{initiator: testInitiator, target: "iqn.2026-01.net.example:a", isid: NewISID(), settings: s})
	if err != nil {
		return loginResult{}, err
	}
	srv, err := iscsitest.Start("127.0.0.1:0", script)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	conn, err := dialFor(t, srv.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for p := m.first(); p != nil; {
		if _, err := conn.Write(p.encode(digests{})); err != nil {
			t.Fatal(err)
		}
		answer, err := readPDU(conn, maxLoginData, digests{})
		if err != nil {
			t.Fatal(err)
		}
		if p, err = m.next(answer); err != nil {
			return m.out, err
		}
	}
	return m.out, nil
}

func TestWhatIsAgreedOn(t *testing.T) {
	plain := Agreed{
		MaxRecv: 262144, MaxXmit: 65536, MaxBurst: 262144, FirstBurst: 65536, MaxR2T: 1,
		InitialR2T: true, ImmediateData: true, PDUInOrder: true, SeqInOrder: true, Time2Wait: 2,
	}
	with := func(change func(*Agreed)) Agreed {
		a := plain
		change(&a)
		return a
	}
	for _, tc := range []struct {
		name   string
		s      Settings
		script iscsitest.Script
		want   Agreed
	}{
		{"all defaults", Settings{}, iscsitest.Script{}, plain},
		{"digests that both want", Settings{HeaderDigest: []string{"CRC32C", "None"}, DataDigest: []string{"CRC32C"}}, iscsitest.Script{},
			with(func(a *Agreed) { a.HeaderDigest, a.DataDigest = true, true })},
		{"digests that the target does not do", Settings{HeaderDigest: []string{"CRC32C", "None"}}, iscsitest.Script{Replace: map[string]string{"HeaderDigest": "None"}}, plain},
		{"a target with small bursts", Settings{}, iscsitest.Script{Replace: map[string]string{"MaxBurstLength": "16384"}},
			with(func(a *Agreed) { a.MaxBurst, a.FirstBurst = 16384, 16384 })},
		{"a target that cannot say anything about bursts", Settings{FirstBurst: 4096}, iscsitest.Script{Replace: map[string]string{"FirstBurstLength": "Irrelevant"}}, plain},
		{"a number of R2Ts that the kernel does not take", Settings{MaxR2T: 8}, iscsitest.Script{Replace: map[string]string{"MaxOutstandingR2T": "3"}},
			with(func(a *Agreed) { a.MaxR2T = 4 })},
		{"a target that is silent about everything it may be", Settings{}, iscsitest.Script{Replace: map[string]string{
			"MaxRecvDataSegmentLength": "-", "MaxBurstLength": "-", "DefaultTime2Wait": "-", "DefaultTime2Retain": "-"}},
			with(func(a *Agreed) { a.MaxXmit, a.Time2Retain = 8192, 20 })},
		{"a bound of our own on what is sent", Settings{MaxXmit: 4096}, iscsitest.Script{}, with(func(a *Agreed) { a.MaxXmit = 4096 })},
		{"a target that wants time", Settings{}, iscsitest.Script{Replace: map[string]string{"DefaultTime2Wait": "30"}}, with(func(a *Agreed) { a.Time2Wait = 30 })},
		{"hexadecimal numbers", Settings{}, iscsitest.Script{Replace: map[string]string{"MaxBurstLength": "0x4000"}},
			with(func(a *Agreed) { a.MaxBurst, a.FirstBurst = 16384, 16384 })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := normal(t, tc.s, tc.script)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.agreed); diff != "" {
				t.Error(diff)
			}
			if got.tsih != 1 || got.tag != 1 {
				t.Errorf("handle %d, tag %d", got.tsih, got.tag)
			}
		})
	}
}

func TestSettingsThatCannotBeAreRefusedBeforeAnythingIsSent(t *testing.T) {
	for name, s := range map[string]Settings{
		"a digest nobody knows":        {HeaderDigest: []string{"MD5"}},
		"a digest twice":               {DataDigest: []string{"None", "None"}},
		"a tiny PDU":                   {MaxRecv: 100},
		"a PDU of 16 MiB":              {MaxRecv: 1 << 24},
		"a first burst above the most": {MaxBurst: 8192, FirstBurst: 16384},
		"three R2Ts":                   {MaxR2T: 3},
		"an hour and a second":         {Time2Wait: new(uint32(3601))},
	} {
		var want *SettingError
		if _, err := newMachine(request{initiator: testInitiator, settings: s}); !errors.As(err, &want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "iqn.2026-01.x:\x00AuthMethod=None", strings.Repeat("x", 224)} {
		var want *SettingError
		if _, err := newMachine(request{initiator: name}); !errors.As(err, &want) {
			t.Errorf("the initiator %q: got %v", name, err)
		}
	}
}

// FuzzLogin feeds responses to a login with CHAP both ways: it ends, it never succeeds without the target's proof, and it
// keeps no more than its bounds.
func FuzzLogin(f *testing.F) {
	response := func(flags byte, text string) []byte {
		p := &pdu{}
		p.header[0], p.header[1], p.header[15] = opLoginReply, flags, 1
		copy(p.header[8:14], []byte{0x80, 1, 2, 3, 4, 5})
		p.setData([]byte(text))
		return p.encode(digests{})
	}
	f.Add(slices.Concat(response(0, "AuthMethod=CHAP\x00"), response(0, "CHAP_A=7\x00CHAP_I=1\x00CHAP_C=0x0102\x00"),
		response(0x81, "CHAP_N=t\x00CHAP_R=0x00\x00"), response(0x87, "MaxBurstLength=512\x00")), true)
	f.Add(slices.Concat(response(0x81, "TargetPortalGroupTag=1\x00AuthMethod=None\x00"), response(4, "HeaderDigest=CRC32C,None\x00"), response(0x87, "")), false)
	f.Add(response(0x40, "Auth"), false)
	one, err := secret.From([]byte("one"))
	if err != nil {
		f.Fatal(err)
	}
	two, err := secret.From([]byte("two"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, mutual bool) {
		r := request{initiator: testInitiator, target: "iqn.2026-01.net.example:a", isid: ISID{0x80, 1, 2, 3, 4, 5}}
		if mutual {
			r.chap = &CHAP{User: "u", Secret: one, Mutual: two}
		}
		m, err := newMachine(r)
		if err != nil {
			t.Fatal(err)
		}
		in := bytes.NewReader(b)
		for p := m.first(); ; {
			if len(p.data) > maxLoginData {
				t.Fatalf("a request of %d bytes", len(p.data))
			}
			answer, err := readPDU(in, maxLoginData, digests{})
			if err != nil {
				return
			}
			next, err := m.next(answer)
			if err != nil {
				if code(err) == "" || strings.ContainsAny(err.Error(), "\x00\n") {
					t.Fatalf("an error without a code, or over several lines: %q", err)
				}
				return
			}
			if next == nil {
				if mutual {
					t.Fatal("the target is believed without a proof")
				}
				if a := m.out.agreed; a.FirstBurst > a.MaxBurst || a.MaxXmit < 512 {
					t.Fatalf("the kernel would refuse %+v", a)
				}
				return
			}
			p = next
		}
	})
}

func TestATargetWithoutDigestsIsNoBreachOfTheProtocol(t *testing.T) {
	s, err := Settings{HeaderDigest: []string{digestCRC}, DataDigest: []string{digestCRC, none}}.filled()
	if err != nil {
		t.Fatal(err)
	}
	n := newNegotiation(s, false)
	n.offers()
	var refused *UnacceptedError
	if _, err := n.take(pair{keyHeaderDigest, none}); !errors.As(err, &refused) || refused.Error() != "the target rejects HeaderDigest=CRC32C" {
		t.Errorf("digests or nothing: %v", err)
	}
	if reply, err := n.take(pair{keyDataDigest, none}); err != nil || reply != "" || n.result().DataDigest {
		t.Errorf("digests or none: %q, %v, %+v", reply, err, n.result())
	}
}
