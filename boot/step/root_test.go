package step

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/appliance"
	"initd/boot/plan"
)

func TestAMountAtTheTopIsARoot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: initd/v1
name: x
mounts:
  - {where: /run/scratch, type: tmpfs}
  - {where: /srv/cache, type: tmpfs}
  - {what: dev/vda, where: /, type: ext4}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	p := compile(t, file)
	if init, ok := RootInit(p); !ok || init != "/sbin/init" {
		t.Errorf("its init: %q, %v", init, ok)
	}
	want := []plan.Need{{AnyOf: []plan.Resource{"mount/"}, Min: 1, Mode: plan.Require}}
	for _, id := range []string{"root", "mount/srv/cache"} {
		if diff := cmp.Diff(want, p.Unit(id).Needs); diff != "" {
			t.Errorf("%s needs (-want +got):\n%s", id, diff)
		}
	}
	if diff := cmp.Diff([]plan.Need{{AnyOf: []plan.Resource{"block/dev/vda"}, Min: 1, Mode: plan.Require}}, p.Unit("mount/").Needs); diff != "" {
		t.Errorf("the root's mount needs (-want +got):\n%s", diff)
	}
	if _, ok := RootInit(compile(t, filepath.Join("..", "..", "docs", "appliance.yaml"))); ok {
		t.Error("an appliance without a root has an init of one")
	}
}

func TestARootThatCannotBe(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"in memory": {"mounts: [{where: /, type: tmpfs}]",
			"a root holds another system, and no tmpfs does"},
		"beside services": {"mounts: [{what: dev/vda, where: /, type: ext4}]\nservices: [{name: a, command: [/bin/a]}]",
			"service a: services belong to the init of the root, which x.yaml:3:10 mounts at /"},
	} {
		_, err := appliance.Parse([]appliance.Source{{Name: "x.yaml", Data: []byte("apiVersion: initd/v1\nname: x\n" + row.text + "\n")}})
		var list *appliance.Problems
		if !errors.As(err, &list) || len(list.List) != 1 || list.List[0].Message != row.want {
			b, _ := json.Marshal(list)
			t.Errorf("%s: got %s, want one problem: %s", name, b, row.want)
		}
	}
}

func TestWherePlacesAreBeforeAndAfterTheHandOver(t *testing.T) {
	for _, row := range []struct{ root, where, want string }{
		{"/sysroot", "/", "/sysroot"},
		{"/sysroot", "/srv/data", "/sysroot/srv/data"},
		{"/sysroot", "/run/scratch", "/run/scratch"},
		{"/sysroot", "/runner", "/sysroot/runner"},
		{"", "/", "/"},
		{"", "/srv/data", "/srv/data"},
	} {
		if got := (Paths{Root: row.root}).place(row.where); got != row.want {
			t.Errorf("%s with the root at %q: got %s, want %s", row.where, row.root, got, row.want)
		}
	}
}
