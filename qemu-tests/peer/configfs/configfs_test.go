package configfs

import (
	"os"
	"testing"
)

// A plain directory has no groups of a kernel's, but the order is the same: links, what is deepest, the top.
func TestATreeIsBuiltAndTakenApart(t *testing.T) {
	tree := At(t.TempDir())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tree.Make("subsystems/a/namespaces/1"))
	must(tree.Make("subsystems/a/namespaces/1")) // it is there
	must(tree.Make("ports/1/subsystems"))
	must(os.WriteFile(tree.Path("subsystems/a/attr"), nil, 0o600)) // an attribute is there from the start
	must(tree.Set("subsystems/a/attr", "1"))
	if got, err := tree.Get("subsystems/a/attr"); err != nil || got != "1" {
		t.Errorf("attr: got %q, %v", got, err)
	}
	must(tree.Link("subsystems/a", "ports/1/subsystems/a"))
	must(tree.Link("subsystems/a", "ports/1/subsystems/a"))
	if names, err := tree.Names("ports/1/subsystems"); err != nil || len(names) != 1 {
		t.Errorf("linked: %v, %v", names, err)
	}
	must(tree.Remove("ports/1"))
	must(tree.Remove("ports/1")) // it is gone
	if tree.Has("ports/1") || !tree.Has("subsystems/a/namespaces/1") {
		t.Error("the port is there still, or its removal followed the link")
	}
	if err := tree.Set("subsystems/a/none", "secret"); err == nil {
		t.Error("an attribute that is not there could be set")
	}
}
