package appliance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: initd/v1\nname: t\n"

func problems(t *testing.T, err error) []string {
	t.Helper()
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("Parse: got %v, want *Problems", err)
	}
	return strings.Split(p.Error(), "\n")
}

func TestProblems(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a misspelt section", "apiVersion: initd/v1\nname: t\nmedai: {}\n",
			[]string{`f.yaml:3:1: unknown key "medai" in the file; did you mean "media"?`}},
		{"a section that is not built yet", head + "rbd: []\n",
			[]string{`f.yaml:3:1: unknown key "rbd" in the file; known here: apiVersion, name, budgets, shell, state, network, time, keys, media, fabrics, mounts, services, sysctl, image`}},
		{"a relative mount point", head + "mounts:\n  - {what: uuid/1, where: srv/x, type: xfs}\n",
			[]string{`f.yaml:4:27: mounts[0].where: "srv/x" is a relative path; write "/srv/x"`}},
		{"a name given twice", head + "media:\n  luks:\n    - {name: a, device: uuid/1, key: prompt}\n    - {name: a, device: uuid/2, key: prompt}\n",
			[]string{`f.yaml:6:14: media.luks: the name "a" is taken by the entry in f.yaml:5:7; rename one of them`}},
		{"a key given twice", head + "name: u\n",
			[]string{`f.yaml:3:1: key "name" stands twice; first in line 2; merge the two`}},
		{"a fact without its dollar", head + "keys: {default-name: {machine.name}}\n",
			[]string{`f.yaml:3:22: keys.default-name is one value, not a mapping; a fact is written "${machine.name}", with a dollar and in quotes`}},
		{"an unknown fact", head + "keys: {default-name: \"${machine.serail}\"}\n",
			[]string{`f.yaml:3:22: keys.default-name: unknown fact ${machine.serail}; did you mean "machine.serial"?`}},
		{"a key by KMIP without a server", head + "media:\n  luks:\n    - {name: a, device: uuid/1, key: kmip}\n",
			[]string{`f.yaml:5:38: the key comes by KMIP, but the file names no key server; add keys: {servers: […]}`}},
		{"a mapping where a list belongs", head + "mounts: {what: uuid/1}\n",
			[]string{`f.yaml:3:9: mounts is a list, not a mapping; write each entry on a line of its own, with a dash before it`}},
		{"an anchor", head + "budgets: &b {boot: 1m}\n",
			[]string{`f.yaml:3:10: anchors and aliases are not part of this format; write the value out`}},
		{"an address without its prefix", head + "network: {links: [{name: a, addresses: [192.0.2.1]}]}\n",
			[]string{`f.yaml:3:41: "192.0.2.1" is no address with a prefix length, nor dhcp4; write its prefix length too, such as 192.0.2.1/24`}},
		{"several at once, in order", head + "servces: []\nmounts:\n  - {what: uuid/1, where: x, type: zfs}\n",
			[]string{
				`f.yaml:3:1: unknown key "servces" in the file; did you mean "services"?`,
				`f.yaml:5:27: mounts[0].where: "x" is a relative path; write "/x"`,
				`f.yaml:5:36: mounts[0].type: "zfs" is not known; did you mean "xfs"?`,
			}},
		{"a misspelt key is read as what it means, so that the rest is found too", head + "mounst:\n  - {what: uuid/1, wher: srv, type: xfs}\n",
			[]string{
				`f.yaml:3:1: unknown key "mounst" in the file; did you mean "mounts"?`,
				`f.yaml:4:20: unknown key "wher" in mounts[0]; did you mean "where"?`,
				`f.yaml:4:26: mounts[0].where: "srv" is a relative path; write "/srv"`,
			}},
		{"one value where a list of them belongs", head + "time: {servers: 192.0.2.1}\n",
			[]string{`f.yaml:3:17: time.servers is a list, not the value "192.0.2.1"; write servers: [192.0.2.1]`}},
		{"a tab", head + "time:\n\tservers: []\n",
			[]string{`f.yaml:4:1: YAML syntax: found character that cannot start any token; indent with spaces: YAML takes no tabs`}},
		{"a bracket that is never closed", head + "time: {servers: [a\nname: b\n",
			[]string{`f.yaml:4:5: YAML syntax: did not find expected ',' or ']'; look at the indentation, the brackets and the quotes here and in the line above`}},
		{"no version", "name: t\n", []string{`f.yaml:1:1: the file has no "apiVersion": always initd/v1`}},
		{"an empty file", "", []string{`f.yaml:1:1: the file is empty; start with the line "apiVersion: initd/v1"`}},
		{"a password in clear", head + "shell: {password: secret}\n",
			[]string{`f.yaml:3:8: shell: the password is not a crypt(3) hash, and no secret may stand in this file; make one with: openssl passwd -6`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]Source{{Name: "f.yaml", Data: []byte(tt.text)}})
			if diff := cmp.Diff(tt.want, problems(t, err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScalarsKeepTheirSourceText(t *testing.T) {
	a, err := Parse([]Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: 010\nservices:\n  - {name: no, command: [/bin/x, 1e3, on, 0x10, ~], env: {A: yes}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "010" {
		t.Errorf("name: got %q, want the text 010", a.Name)
	}
	if diff := cmp.Diff([]string{"/bin/x", "1e3", "on", "0x10", "~"}, a.Services[0].Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if a.Services[0].Name != "no" || a.Services[0].Env["A"] != "yes" {
		t.Errorf("name and env: got %q and %q", a.Services[0].Name, a.Services[0].Env["A"])
	}
}

func TestLayers(t *testing.T) {
	base := head + "mounts:\n  - {what: uuid/1, where: /a, type: xfs}\nmedia:\n  luks:\n    - {name: a, device: uuid/1, key: prompt}\n    - {name: b, device: uuid/2, key: prompt}\nbudgets: {boot: 1m, shutdown: 20s}\n"
	over := "media:\n  luks:\n    - {name: a, discards: true}\n    - {name: b, remove: true}\n    - {name: c, device: uuid/3, key: prompt}\nbudgets: {boot: 2m}\n"
	a, err := Parse([]Source{{"base.yaml", []byte(base)}, {"10-over.yaml", []byte(over)}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range a.Media.LUKS {
		got = append(got, l.Name+" "+l.Device+" "+map[bool]string{true: "discards"}[l.Discards])
	}
	if diff := cmp.Diff([]string{"a uuid/1 discards", "c uuid/3 "}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if a.Budgets.Boot.String() != "2m0s" || a.Budgets.Shutdown.String() != "20s" {
		t.Errorf("budgets: got %v and %v, want 2m0s and 20s", a.Budgets.Boot, a.Budgets.Shutdown)
	}
	if p := a.At("media.luks[1].device"); p.File != "10-over.yaml" {
		t.Errorf("position of a layer's value: got %v, want it in 10-over.yaml", p)
	}
}

func TestDocumentedFileLoadsAndIsCanonical(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "appliance.yaml")
	a, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, ty := range sectionTypes() {
		for _, f := range structFields(ty) {
			if f.doc == "" {
				t.Errorf("%s: the key %q has no doc tag", ty.Name(), f.key)
			}
			if yaml11Boolean(f.key) {
				t.Errorf("%s: the key %q is a boolean in YAML 1.1", ty.Name(), f.key)
			}
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	once, err := Format(Source{"a", data})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := Format(Source{"a", once})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(once), string(twice)); diff != "" {
		t.Errorf("formatting twice differs (-once +twice):\n%s", diff)
	}
	b, err := Parse([]Source{{"a", once}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Media.LUKS[1].Key.KMIP.Name != b.Media.LUKS[1].Key.KMIP.Name || len(a.Services) != len(b.Services) {
		t.Error("the formatted file means something else")
	}
}

func yaml11Boolean(key string) bool {
	switch strings.ToLower(key) {
	case "on", "off", "yes", "no", "y", "n", "true", "false":
		return true
	}
	return false
}

func TestSchemaNamesEveryKey(t *testing.T) {
	b, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, ty := range sectionTypes() {
		for _, f := range structFields(ty) {
			if !strings.Contains(string(b), `"`+f.key+`"`) {
				t.Errorf("the schema lacks %s of %s", f.key, ty.Name())
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "mounts: [{what: luks/a, where: /a, type: xfs}]"))
	f.Add([]byte(head + "keys: {servers: [{name: a, address: \"[::1]:5696\"}]}\nmedia: {luks: [{name: x, device: uuid/1, key: {kmip: {id: q}}}]}"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Parse([]Source{{"f.yaml", b}})
		if err == nil && a == nil {
			t.Fatal("neither an appliance nor an error")
		}
		if err != nil {
			return
		}
		out, err := Format(Source{"f.yaml", b})
		if err != nil {
			t.Fatalf("a file that loads does not format: %v", err)
		}
		if _, err := Parse([]Source{{"f.yaml", out}}); err != nil {
			t.Fatalf("the formatted file does not load: %v\n%s", err, out)
		}
	})
}
