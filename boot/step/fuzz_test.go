package step

import (
	"os"
	"path/filepath"
	"testing"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// FuzzCompile: what a file says, right or wrong, is a plan or problems that
// each say where they stand. A file that does not load is compiled too, as
// initd check does to find everything at once.
func FuzzCompile(f *testing.F) {
	documented, err := os.ReadFile(filepath.Join("..", "..", "docs", "appliance.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	const head = "apiVersion: initd/v1\nname: t\n"
	f.Add(documented)
	f.Add([]byte(head + "medai: {luks: [{name: a, device: \"\", key: kmip}, {key: {}}, 5]}\nmounts: [{where: x, type: bind}, {}]\n"))
	f.Add([]byte(head + "services: [{name: a, needs: [service/a, b, /dev/x]}, {name: a, after: [uid/x]}]\nnetwork: {routes: [{}], links: [{}, 3]}\nkeys: 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, lerr := appliance.Parse([]appliance.Source{{Name: "f.yaml", Data: data}})
		if a == nil {
			return
		}
		p, perr := plan.Compile(a, plan.Facts{}, Kinds())
		err := appliance.Join(lerr, perr)
		if (err == nil) != (lerr == nil && p != nil) {
			t.Fatalf("a plan: %v; problems: %v", p != nil, err)
		}
		list, ok := err.(*appliance.Problems)
		if err != nil && !ok {
			t.Fatalf("got %v, want problems", err)
		}
		if !ok {
			return
		}
		for _, pr := range list.List {
			if pr.File != "f.yaml" || pr.Line < 1 || pr.Message == "" {
				t.Errorf("a problem without its place or its words: %+v", pr)
			}
		}
	})
}
