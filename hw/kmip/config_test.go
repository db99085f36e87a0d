package kmip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/secret"
)

func TestAddressesAreTakenApart(t *testing.T) {
	cases := []struct{ name, in, host, port, err string }{
		{"a name and a port", "kms-a.example.net:5696", "kms-a.example.net", "5696", ""},
		{"a name alone", "kms-a.example.net", "kms-a.example.net", "5696", ""},
		{"an IPv4 address alone", "192.0.2.1", "192.0.2.1", "5696", ""},
		{"an IPv6 address and a port", "[2001:db8::1]:15696", "2001:db8::1", "15696", ""},
		{"an IPv6 address in brackets", "[2001:db8::1]", "2001:db8::1", "5696", ""},
		{"an IPv6 address alone", "2001:db8::1", "2001:db8::1", "5696", ""},
		{"an IPv6 address with a zone", "[fe80::1%eth0]:5696", "fe80::1%eth0", "5696", ""},
		{"nothing", "", "", "", "no address: want HOST:PORT"},
		{"a port alone", ":5696", "", "", `address ":5696" has no host: want HOST:PORT`},
		{"a port that is too large", "kms:65536", "", "", `address "kms:65536": port "65536" is not a number from 1 to 65535`},
		{"a port by name", "kms:kmip", "", "", `address "kms:kmip": port "kmip" is not a number from 1 to 65535`},
		{"something with colons", "a:b:c", "", "", `address "a:b:c": want HOST:PORT, 192.0.2.1:5696 or [2001:db8::1]:5696`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			host, port, err := splitAddress(c.in)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff([]string{c.host, c.port, c.err}, []string{host, port, text}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllThatIsWrongWithAConfigurationIsToldAtOnce(t *testing.T) {
	err := Config{Batch: -1, Servers: []Server{
		{Name: "a", Address: "a"},
		{Name: "a", Address: ":1", TLS: TLS{CA: Source{Path: "x"}, Cert: Source{Path: "y"}, Pin: "z"}},
		{Address: "c", TLS: TLS{CA: Source{Path: "x"}}},
	}}.Validate()
	want := []string{
		`key server "a": no CA: without one nobody can tell it from an impostor`,
		`key server "a" is there twice`,
		`key server "a": address ":1" has no host: want HOST:PORT`,
		`key server "a": a client certificate and its key come together, one is missing`,
		`key server "a": pin "z": want the SHA-256 of the server's public key in hex or base64`,
		`key server #3 has no name`,
		`batch of -1 requests: must be 1 or more`,
	}
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no servers is no error")
	}
}

func TestPinsAreReadInEveryCommonForm(t *testing.T) {
	hexPin := strings.Repeat("ab", 32)
	for _, s := range []string{hexPin, "sha256:" + strings.ToUpper(hexPin), strings.TrimSuffix(strings.Repeat("ab:", 32), ":"), "sha256/q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="} {
		got, err := parsePin(s)
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0xab}, 32)) {
			t.Errorf("%q: %x, %v", s, got, err)
		}
	}
}

func TestAPrivateKeyIsNeitherPrintedNorMarshalled(t *testing.T) {
	cfg := Config{Servers: []Server{{Name: "a", Address: "a", TLS: TLS{Key: KeySource{PEM: []byte("PRIVATE"), Path: "/key.pem"}}}}}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(data)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		texts = append(texts, fmt.Sprintf(verb, cfg))
	}
	for _, text := range texts {
		if strings.Contains(text, "PRIVATE") || strings.Contains(text, fmt.Sprintf("%x", "PRIVATE")) || strings.Contains(text, fmt.Sprint([]byte("PRIVATE"))) {
			t.Errorf("the key is told: %s", text)
		}
	}
	var back Config
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	cfg.Servers[0].TLS.Key.PEM = nil
	if diff := cmp.Diff(cfg, back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSourcesAreReadWhereverTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := secret.Seal("test", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	cases := []struct {
		name   string
		source KeySource
		times  int
	}{
		{"a file, twice", KeySource{Path: path}, 2},
		{"a sealed memfd, twice", KeySource{FD: int(sealed.Fd())}, 2},
		{"a pipe", KeySource{FD: int(r.Fd())}, 1},
		{"memory, twice", KeySource{PEM: []byte("content")}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for range c.times {
				got, err := c.source.read()
				if err != nil || string(got) != "content" {
					t.Errorf("%q, %v", got, err)
				}
				clear(got)
			}
		})
	}
	for name, s := range map[string]KeySource{"nothing": {}, "a file that is missing": {Path: path + "x"}, "a descriptor that is closed": {FD: 9999}} {
		if _, err := s.read(); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
	if err := os.WriteFile(path, make([]byte, maxPEM+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Source{Path: path}).read(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestErrorsReadAsASentenceAndSurviveJSON(t *testing.T) {
	e := &Error{
		Code: CodeTLSExpired, Op: "get key", Object: "store-07/tank0", Server: "kms-a", Address: "192.0.2.21:5696",
		Cause: errors.New("certificate has expired on 2026-11-01 by this clock (2026-11-21)"), Hint: "renew it on the server",
		Others: []*Error{{Code: CodeDial, Server: "kms-b", Address: "192.0.2.22:5696", Cause: errors.New("connection refused")}},
	}
	want := `get key "store-07/tank0" from kms-a (192.0.2.21:5696): certificate has expired on 2026-11-01 by this clock (2026-11-21): renew it on the server; kms-b (192.0.2.22:5696): connection refused`
	if diff := cmp.Diff(want, e.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	data, err := json.Marshal(Result{Request: "k", Err: e})
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, back.Err.Error()); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
	if CodeOf(fmt.Errorf("wrapped: %w", back.Err)) != CodeTLSExpired || CodeOf(errors.New("other")) != "" || CodeOf((*Error)(nil)) != "" {
		t.Error("the code is lost")
	}
}

func TestAServersOwnWordsAreMadeHarmless(t *testing.T) {
	cases := map[string]string{
		"":                        "",
		"no such object":          ` ("no such object")`,
		"\x1b[2Jred\n\talert\x00": ` ("[2Jred alert")`,
		"bad \xff utf8":           ` ("bad ? utf8")`,
		strings.Repeat("x", 500):  fmt.Sprintf(" (%q)", strings.Repeat("x", maxServerText)+"…"),
	}
	for in, want := range cases {
		if got := serverText(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestErrorsOfTheSystemAreNamed(t *testing.T) {
	cases := []struct {
		name string
		err  error
		code Code
	}{
		{"a refused dial", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, CodeDial},
		{"a reset connection", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, CodeClosed},
		{"a closed connection", fmt.Errorf("read: %w", net.ErrClosed), CodeClosed},
		{"a deadline", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, CodeTimeout},
		{"a name that does not exist", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "kms"}}, CodeResolve},
		{"something else", errors.New("tls: something"), CodeTLS},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := classify(c.err, nil, time.Now()).Code; got != c.code {
				t.Errorf("code %s, want %s", got, c.code)
			}
		})
	}
}
