package step

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/tests/golden"
)

func compile(t *testing.T, file string) *plan.Plan {
	t.Helper()
	a, err := appliance.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Compile(a, plan.Facts{}, Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDocumentedFileBecomesThisPlan(t *testing.T) {
	p := compile(t, filepath.Join("..", "..", "docs", "appliance.yaml"))
	var b bytes.Buffer
	if err := p.Text(&b); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, filepath.Join("testdata", "appliance.txt"), b.String()) // origins name the file as it was given; the text has none
}

func TestEveryKindHasAnActionAndEveryUnitAKind(t *testing.T) {
	actions := map[string]bool{"milestone": true}
	for _, s := range All() {
		if s.New == nil || s.Kind.Expand == nil {
			t.Errorf("kind %s lacks an action or an expansion", s.Kind.Name)
		}
		actions[s.Kind.Name] = true
	}
	for _, u := range compile(t, filepath.Join("..", "..", "docs", "appliance.yaml")).Units {
		if !actions[u.Kind] {
			t.Errorf("%s has the unknown kind %q", u.ID, u.Kind)
		}
		if u.Digest == "" || (u.Origin == "" && !u.Milestone) {
			t.Errorf("%s has no digest or no origin", u.ID)
		}
	}
}

func TestRouteNeedsTheLinkOfItsGateway(t *testing.T) {
	p := compile(t, filepath.Join("..", "..", "docs", "appliance.yaml"))
	got := p.Unit("route/203.0.113.0/24").Needs
	want := []plan.Need{{AnyOf: []plan.Resource{"net/storage"}, Min: 1, Mode: plan.Require}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
}

func TestADeviceHoldsOneVolume(t *testing.T) {
	a, err := appliance.Parse([]appliance.Source{{Name: "f.yaml", Data: []byte(`apiVersion: initd/v1
name: t
media:
  luks:
    - {name: a, device: dev/vda, key: prompt}
    - {name: b, device: block/dev/vda, key: ephemeral}
    - {name: c, device: dev/vdc, header: dev/vda, key: prompt}
    - {name: d, device: luks/a, key: prompt}
    - {name: e, device: dev/vde, header: dev/vdh, key: prompt}
    - {name: f, device: dev/vdf, header: dev/vdh, key: prompt}
mounts:
  - {what: dev/vdc, where: /x, type: ext4}
  - {what: luks/d, where: /y, type: ext4}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = plan.Compile(a, plan.Facts{}, Kinds())
	if err == nil {
		t.Fatal("it compiles")
	}
	const hint = "; a device holds one volume: correct the device of one of them, or remove it\n"
	want := "f.yaml:6:7: luks/a and luks/b are both on block/dev/vda" + hint +
		"f.yaml:7:7: luks/a and luks/c are both on block/dev/vda" + hint +
		"f.yaml:12:12: mount/x is on block/dev/vdc, which is encrypted: it holds luks/c; write what: luks/c"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
