package appliance

import (
	"strings"
	"testing"
)

// What somebody writes into the file although no secret belongs there is refused with its place, and told to nobody: at boot
// the first problem stands on the console and in the report.
func TestAProblemNeverRepeatsWhatMayBeASecret(t *testing.T) {
	const secret = "Tr0ub4dor"
	volume := func(key string) string {
		return head + "media: {luks: [{name: a, device: dev/vda, key: " + key + "}]}\n"
	}
	chap := func(chap string) string {
		return head + "fabrics: {iscsi: [{name: a, target: iqn.2026-01.net.example:a, portals: [192.0.2.1], chap: " + chap + "}]}\n"
	}
	path := func(address string) string {
		return head + "fabrics: {nvme: [{name: a, subsystem: nqn.2026-01.net.example:a, paths: [\"" + address + "\"]}]}\n"
	}
	for name, text := range map[string]string{
		"a passphrase for a source of keys":     volume(secret),
		"one in a list":                         volume("[" + secret + "]"),
		"one in braces":                         volume("{" + secret + "}"),
		"one under a key that there is not":     volume("{passphrase: " + secret + "}"),
		"one for a selector":                    volume("{kmip: " + secret + "}"),
		"one for a path":                        volume("{file: " + secret + "}"),
		"one that YAML takes for an alias":      volume("*" + secret),
		"one that YAML takes for an anchor":     volume("&" + secret + " x"),
		"one that YAML takes for a tag":         volume("!" + secret + " x"),
		"one that YAML takes for a quote":       volume("'" + secret),
		"one that YAML takes for nothing":       volume("@" + secret),
		"one with a dollar":                     volume("{prompt: \"${" + secret + "}\"}"),
		"one that is to be removed":             volume("{remove: " + secret + "}"),
		"a shell's password":                    head + "shell: " + secret + "\n",
		"a shell's password, as a mapping":      head + "shell: {password: " + secret + "}\n",
		"a private key":                         head + "keys: {tls: {key: \"-----BEGIN PRIVATE KEY-----\\n" + secret + "\"}}\n",
		"a private key in a block":              head + "keys:\n  tls:\n    key: |\n      -----BEGIN PRIVATE KEY-----\n      " + secret + "\n",
		"a private key in place of its section": head + "keys: {tls: " + secret + "}\n",
		"a CHAP secret":                         chap("{user: u, secret: " + secret + "}"),
		"user and secret in one":                chap("\"u:" + secret + "\""),
		"a secret of the target's":              chap("{user: u, secret: {file: /x}, mutual: " + secret + "}"),
		"a secret among the algorithms":         chap("{user: u, secret: {file: /x}, algorithms: " + secret + "}"),
		"a key of DH-HMAC-CHAP":                 head + "fabrics: {nvme: [{name: a, subsystem: nqn.x:a, paths: [\"tcp://192.0.2.1\"], dhchap: {secret: \"DHHC-1:00:" + secret + ":\"}}]}\n",
		"the same in one":                       head + "fabrics: {nvme: [{name: a, subsystem: nqn.x:a, paths: [\"tcp://192.0.2.1\"], dhchap: \"DHHC-1:00:" + secret + ":\"}]}\n",
		"a password in a path's address":        path("tcp://u:" + secret + "@192.0.2.1"),
		"one in another protocol's":             path("https://u:" + secret + "@192.0.2.1"),
		"one in a portal's":                     head + "fabrics: {iscsi: [{name: a, target: iqn.2026-01.net.example:a, portals: [\"u:" + secret + "@192.0.2.1\"]}]}\n",
		"one in a key server's":                 head + "keys: {servers: [{name: a, address: \"https://u:" + secret + "@kms:5696\"}]}\n",
		"one in a queue's":                      head + "jobs: {v2v: {workers: 1, nats: \"http://u:" + secret + "@host\"}}\n",
		"an environment that is none":           head + "services: [{name: a, command: [/a], env: " + secret + "}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(text)}})
			for _, line := range problems(t, err) {
				if strings.Contains(line, secret) {
					t.Errorf("it is told: %s", line)
				}
				if !strings.HasPrefix(line, "f.yaml:") || !strings.Contains(line, "; ") && !strings.Contains(line, " has no ") {
					t.Errorf("without its place, or what to do: %s", line)
				}
			}
		})
	}
}
