package initd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageHasExactlyOneDoc: a package's comment is its contract (what it owns, what it never does), so it has
// one, in one file. The root holds tests alone and needs none.
func TestEveryPackageHasExactlyOneDoc(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if docs[f.pkg] == nil {
			docs[f.pkg] = []string{}
		}
		if parsed.Doc == nil {
			continue
		}
		docs[f.pkg] = append(docs[f.pkg], f.path)
		checkDoc(t, f.path, parsed)
	}
	for _, pkg := range slices.Sorted(maps.Keys(docs)) {
		switch files := docs[pkg]; len(files) {
		case 0:
			t.Errorf("package %s has no package doc: say what it owns and what it never does", pkg)
		case 1:
		default:
			t.Errorf("package %s has %d package docs: %s; one is the contract, the others are comments", pkg, len(files), strings.Join(files, ", "))
		}
	}
}

// checkDoc holds a package doc to the go command's convention, so that `go doc` and editors show its first sentence.
func checkDoc(t *testing.T, path string, f *ast.File) {
	t.Helper()
	text := f.Doc.Text()
	if f.Name.Name == "main" {
		if strings.TrimSpace(text) == "" {
			t.Errorf("%s: the package doc is empty", path)
		}
		return
	}
	if want := "Package " + f.Name.Name + " "; !strings.HasPrefix(text, want) {
		first, _, _ := strings.Cut(text, "\n")
		t.Errorf("%s: the package doc starts with %q, want %q", path, first, want)
	}
}
