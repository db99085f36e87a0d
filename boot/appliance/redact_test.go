package appliance

import (
	"os"
	"strings"
	"testing"
)

func TestASecretThatStandsInAFileIsShownToNobody(t *testing.T) {
	const file = `# the machine
apiVersion: initd/v1
name: t
shell: SECRET
keys:
  tls: {ca: pki/ca.pem, cert: y.pem, key: "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"}
  servers: [{name: k, address: "k:1", tls: SECRET}]
media:
  luks:
    - {name: a, device: dev/vda, key: SECRET}
    - {name: b, device: dev/vdb, key: {passphrase: SECRET}}
    - {name: c, device: dev/vdc, key: [SECRET, {x: SECRET}]}
    - {name: d, device: dev/vdd, key: {SECRET}}
    - {name: e, device: dev/vde, key: {file: SECRET}}
    - {name: f, device: dev/vdf, key: {kmip: SECRET}}
    - {name: g, device: dev/vdg, key: !SECRET x}
    - {name: h, device: dev/vdh, key: &SECRET x}
    - {name: i, device: dev/vdi, key: &SECRET kmip}
    - name: j
      key: >
        SECRET
        SECRET
    - {name: k, device: dev/vdk, key: kmip}
    - {name: l, device: dev/vdl, key: {file: /run/initd/state/keys/l}}
    - {name: m, device: dev/vdm, key: {kmip: {id: "17"}}}
    - {name: n, device: dev/vdn, key: {prompt: For the tank}}
fabrics:
  iscsi:
    - {name: a, chap: {user: u, secret: SECRET, mutual: SECRET}}
    - {name: b, chap: "u:SECRET"}
  nvme:
    - {name: a, dhchap: {secret: "DHHC-1:00:SECRET:", controller-secret: SECRET}}
    - {name: b, dhchap: SECRET}
services:
  - {name: s, command: [/a], env: SECRET}
`
	out, err := Redact(Source{Name: "f.yaml", Data: []byte(file)}, "REDACTED")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "SECRET") {
			t.Errorf("it is shown: %s", line)
		}
	}
	for _, kept := range []string{"pki/ca.pem", "y.pem", "key: kmip", "file: /run/initd/state/keys/l", `id: "17"`, "prompt: For the tank", "user: u", "# the machine"} {
		if !strings.Contains(string(out), kept) {
			t.Errorf("%s is lost:\n%s", kept, out)
		}
	}
	if _, err := Redact(Source{Name: "f.yaml", Data: []byte("key: @SECRET\n")}, "REDACTED"); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("of what is no YAML: got %v", err)
	}
	documented, err := os.ReadFile("../../docs/appliance.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Redact(Source{Name: "f.yaml", Data: documented}, "REDACTED"); err != nil || string(got) != string(documented) {
		t.Errorf("a file without secrets comes back changed: %v\n%s", err, got)
	}
}
