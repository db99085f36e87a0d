package bundle

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"what is no secret stays", "volume: tank0\nkey: kmip\n", "volume: tank0\nkey: kmip\n"},
		{"where a secret comes from stays", "chap: {user: store-07, secret: kmip}", "chap: {user: store-07, secret: kmip}"},
		{"a password", "password: hunter2", "password: REDACTED"},
		{"a password in a flow mapping", "{password: hunter2, user: x}", "{password: REDACTED, user: x}"},
		{"a quoted one with blanks", `db_password = "hunter 2" # x`, `db_password = "REDACTED" # x`},
		{"one on a command line", "root=/dev/vda api-token=abc quiet", "root=/dev/vda api-token=REDACTED quiet"},
		{"a password hash", "shell: {hash: '$6$salt$abcdefghijkl'}", "shell: {hash: 'REDACTED'}"},
		{"who logs in by a URL", "tcp://user:hunter2@host/x and redis://:pw@h", "tcp://REDACTED@host/x and redis://REDACTED@h"},
		{"an address without one", "http://host:80/x", "http://host:80/x"},
		{"a private key", "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nb", "a\nREDACTED\nb"},
		{"a private key without its end", "a\n-----BEGIN PRIVATE KEY-----\nMHcC", "a\nREDACTED"},
		{"a certificate stays", "-----BEGIN CERTIFICATE-----\nMHcC\n", "-----BEGIN CERTIFICATE-----\nMHcC\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(Text([]byte(tt.text))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	lines := `{"at":12345678901234567,"text":"says password=\"hunter2\" <a>","list":["tcp://u:p@h"]}` + "\n" +
		`{"Password":"hunter2","secret":"kmip","n":1}` + "\n" + `{"torn":"password=hunter2`
	want := `{"at":12345678901234567,"list":["tcp://REDACTED@h"],"text":"says password=\"REDACTED\" <a>"}` + "\n" +
		`{"Password":"REDACTED","n":1,"secret":"kmip"}` + "\n"
	got := string(JSON([]byte(lines)))
	if !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s…", got, want)
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a secret is left in %s", got)
	}
}

// Whatever services write: no private key and no password behind its name gets
// through, and JSON stays JSON.
func FuzzRedact(f *testing.F) {
	f.Add([]byte("user=x password=hunter2\n"))
	f.Add([]byte(`{"a":["tcp://u:p@h"],"token":"x"}`))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		once := Text(b)
		if bytes.Contains(once, []byte("-----BEGIN PRIVATE KEY-----")) {
			t.Fatalf("a private key is left of %q", b)
		}
		if len(once) > 16*len(b)+64 {
			t.Fatalf("%d bytes became %d", len(b), len(once))
		}
		if json.Valid(b) && !json.Valid(JSON(b)) && len(bytes.TrimSpace(b)) > 0 {
			t.Fatalf("%q became %q, which is no JSON", b, JSON(b))
		}
	})
}
