package kmip

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func report() CheckReport {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	cert := func(subject string, days int) *Certificate {
		return &Certificate{Subject: subject, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(0, 0, days)}
	}
	refused := &Error{Code: CodeDial, Op: "connect to key server", Server: "kms-b", Address: "192.0.2.22:5696", Cause: errors.New("connection refused"), Retryable: true}
	return CheckReport{
		At: at,
		Servers: []ServerReport{
			{Name: "kms-a", Address: "192.0.2.21:5696", Reachable: true, TLSVersion: "TLS 1.3", KMIPVersion: "1.4", KMIPVersions: []string{"1.4", "1.3"}, Vendor: "ACME", ServerCert: cert("CN=kms-a", 345), ClientCert: cert("CN=store-07", 12)},
			{Name: "kms-b", Address: "192.0.2.22:5696", Err: refused, ClientCert: cert("CN=store-07", 12)},
			{Name: "blue", Group: "blue", Address: "192.0.2.23:5696", Reachable: true, ServerCert: cert("CN=blue", -20),
				Err: &Error{Code: CodeTLSExpired, Server: "blue", Cause: errors.New("certificate has expired on 2026-11-01 by this clock (2026-11-21)"), Hint: "renew it on the server"}},
		},
		Keys: []KeyReport{
			{Name: "key/tank0", Found: true, Places: []Place{{Server: "kms-a", Keys: []Key{{UniqueID: "17", ObjectType: "SecretData", State: "Active"}}}}, Errors: []*Error{refused.about("get key", "key/tank0")}},
			{Name: "key/tank1", Errors: []*Error{{Code: CodeNotFound, Server: "kms-a", Cause: errors.New("no object matches store-07/tank1"), Hint: "register the key on the server, or correct its name"}, refused}},
			{Name: "key/blue0", Group: "blue", Found: true, Places: []Place{{Server: "blue", Keys: []Key{{UniqueID: "o-1", ObjectType: "OpaqueObject"}}}}},
		},
	}
}

func TestTheReportOfACheckReadsLikeThis(t *testing.T) {
	var b bytes.Buffer
	if err := report().Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `server kms-a (192.0.2.21:5696)
  reachable, TLS 1.3, KMIP 1.4 (of 1.4, 1.3), vendor "ACME"
  server certificate until 2027-11-01 (345 days left), CN=kms-a
  client certificate until 2026-12-03 (renew it: 12 days left), CN=store-07
server kms-b (192.0.2.22:5696)
  not reachable: connection refused [KMIP-DIAL]
  client certificate until 2026-12-03 (renew it: 12 days left), CN=store-07
server blue (192.0.2.23:5696) of group blue
  reachable, not usable: certificate has expired on 2026-11-01 by this clock (2026-11-21): renew it on the server [KMIP-TLS-EXPIRED]
  server certificate until 2026-11-01 (EXPIRED), CN=blue
key key/tank0
  found on kms-a: SecretData, Active, id 17
  not on kms-b: connection refused [KMIP-DIAL]
key key/tank1: MISSING
  not on kms-a: no object matches store-07/tank1: register the key on the server, or correct its name [KMIP-NOT-FOUND]
  not on kms-b: connection refused [KMIP-DIAL]
key key/blue0 of group blue
  found on blue: OpaqueObject, id o-1
2 of 3 keys found; 1 of 3 servers usable
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheReportSurvivesJSON(t *testing.T) {
	data, err := json.Marshal(report())
	if err != nil {
		t.Fatal(err)
	}
	var back CheckReport
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	var a, b strings.Builder
	if err := errors.Join(report().Text(&a), back.Text(&b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.String(), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReportIsOKWhenEveryKeyIsSomewhere(t *testing.T) {
	r := report()
	if r.OK() {
		t.Error("a key is missing")
	}
	r.Keys[1].Found = true
	if !r.OK() {
		t.Error("every key is found")
	}
}
