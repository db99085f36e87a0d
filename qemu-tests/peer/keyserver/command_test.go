package keyserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
)

// initd builds the program once for a test.
func initd(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "initd")
	build := exec.CommandContext(guard(t), "go", "build", "-o", bin, "initd/initd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build initd: %v\n%s", err, out)
	}
	return bin
}

// An operator checks the key servers of an appliance from a laptop: two
// servers, one of them expired, one key everywhere, one nowhere.
func TestKeysCheckTellsWhatIsThereAndNeverAKey(t *testing.T) {
	bin := initd(t)
	w := newWorld(t)
	a := w.serve(keyserver.KindBytes, "kms-a", keyserver.Behaviour{Vendor: "ACME"}, object(0))
	b := w.serveAs(must(w.ca.Server(pki.Expired(), "127.0.0.1"))(t), keyserver.KindKMIPGo, "kms-b", keyserver.Behaviour{}, object(0))
	dir := t.TempDir()
	for name, content := range map[string][]byte{"ca.pem": w.ca.PEM, "cert.pem": w.client.Cert, "key.pem": w.client.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(volumes ...string) string {
		text := fmt.Sprintf(`apiVersion: initd/v1
name: store-07
keys:
  tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
  servers:
    - {name: kms-a, address: %q}
    - {name: kms-b, address: %q}
media:
  luks:
`, a.Addr(), b.Addr())
		for _, v := range volumes {
			text += fmt.Sprintf("    - {name: %s, device: partlabel/%s, key: kmip}\n", v, v)
		}
		file := filepath.Join(dir, "appliance.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	run := func(args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(guard(t), bin, args...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		tellsNoSecret(t, stdout.String()+stderr.String(), keyValue(0), w.client.Key)
		return stdout.String() + stderr.String(), cmd.ProcessState.ExitCode()
	}

	file := write("tank0", "tank1")
	text, code := run("keys", "check", "-f", file)
	text = regexp.MustCompile(`\d{4}-\d\d-\d\d`).ReplaceAllString(text, "DATE")
	text = strings.NewReplacer(a.Addr(), "A", b.Addr(), "B").Replace(text)
	text = regexp.MustCompile(`\d+ days`).ReplaceAllString(text, "N days")
	want := `server kms-a (A)
  reachable, TLS 1.3, KMIP 1.4 (of 1.4, 1.3, 1.2, 1.1, 1.0), vendor "ACME"
  server certificate until DATE (N days left), CN=127.0.0.1,O=initd tests
  client certificate until DATE (N days left), CN=store-07,O=initd tests
server kms-b (B)
  reachable, not usable: certificate has expired on DATE by this clock (DATE): renew it on the server, or set this machine's clock [KMIP-TLS-EXPIRED]
  server certificate until DATE (EXPIRED), CN=127.0.0.1,O=initd tests
  client certificate until DATE (N days left), CN=store-07,O=initd tests
key tank0
  found on kms-a: SecretData, Active, id id-0
  not on kms-b: certificate has expired on DATE by this clock (DATE): renew it on the server, or set this machine's clock [KMIP-TLS-EXPIRED]
key tank1: MISSING
  not on kms-a: no object matches store-07/tank1: register the key on the server, or correct its name [KMIP-NOT-FOUND]
  not on kms-b: certificate has expired on DATE by this clock (DATE): renew it on the server, or set this machine's clock [KMIP-TLS-EXPIRED]
1 of 2 keys found; 1 of 2 servers usable
`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if code != 1 {
		t.Errorf("status %d, want 1: a key is missing", code)
	}

	file = write("tank0")
	text, code = run("keys", "check", "--json", "-f", file)
	var report struct {
		OK bool `json:"ok"`
		kmip.CheckReport
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if code != 0 || !report.OK || len(report.Keys) != 1 || report.Keys[0].Places[0].Server != "kms-a" {
		t.Errorf("status %d, report %+v", code, report)
	}
	if n := w.count("get"); n != 0 {
		t.Errorf("%d keys were fetched: a check looks up", n)
	}

	if err := os.WriteFile(file, []byte("apiVersion: initd/v1\nnmae: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, code = run("keys", "check", "-f", file); code != 2 || !strings.Contains(text, "nmae") {
		t.Errorf("status %d of a bad file, want 2:\n%s", code, text)
	}
}
