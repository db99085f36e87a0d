package appliance

import (
	"strings"
	"testing"
)

func TestWhatIsWrongWithJobs(t *testing.T) {
	for _, tc := range []struct{ name, v2v, wrong string }{
		{"a worker of this machine's queue", "{workers: 2}", ""},
		{"a worker of a cluster", "{workers: 1, nats: \"tls://a.example:4222,tls://b.example:4222\", credentials: /etc/v2v.creds, ca: /etc/ca.pem}", ""},
		{"no workers", "{}", `"workers"`},
		{"too many", "{workers: 1000}", "1000"},
		{"no address", "{workers: 1, nats: \"a.example:4222\"}", "is no address of a NATS server"},
		{"a secret in the address", "{workers: 1, nats: \"nats://v2v:x@a.example\"}", "seen by everybody"},
		{"credentials without a server", "{workers: 1, credentials: /etc/v2v.creds}", "takes no credentials"},
		{"a relative state", "{workers: 1, state: v2v}", "v2v"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: a\njobs:\n  v2v: " + tc.v2v + "\n")}})
			switch {
			case tc.wrong == "" && err != nil:
				t.Error(err)
			case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
				t.Errorf("got %v, want %q", err, tc.wrong)
			}
		})
	}
}
