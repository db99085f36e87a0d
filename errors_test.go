package initd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// errorPages is the folder with a page a code.
const errorPages = "docs/errors"

var stableCode = regexp.MustCompile(`^[A-Z][A-Z0-9]+(-[A-Z0-9]+)+$`)

// TestEveryErrorCodeHasItsPage: a reader who meets a code in brackets finds the page of that name, and no page is about a
// code that nothing says any more.
func TestEveryErrorCodeHasItsPage(t *testing.T) {
	codes := codesInSource(t)
	if len(codes) < 20 {
		t.Fatalf("only %d codes found in the source: this test reads it wrongly", len(codes))
	}
	pages := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(errorPages, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".md"); name != "README" {
			pages[name] = true
		}
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if !stableCode.MatchString(code) {
			t.Errorf("%s: the code %q is not of the form AREA-WHAT", codes[code], code)
		} else if !pages[code] {
			t.Errorf("%s: the code %s has no page: write %s/%s.md (what it means, what it looks like, what to do)", codes[code], code, errorPages, code)
		}
	}
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		if codes[page] == "" {
			t.Errorf("%s/%s.md: nothing in the source says this code", errorPages, page)
		}
	}
	checkPages(t, slices.Sorted(maps.Keys(pages)))
}

// checkPages holds the pages to one shape, and the index to the pages.
func checkPages(t *testing.T, codes []string) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(errorPages, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\(([A-Z][A-Z0-9-]+)\.md\)`)
	var listed []string
	for _, m := range link.FindAllStringSubmatch(string(index), -1) {
		listed = append(listed, m[1])
	}
	if !slices.Equal(listed, codes) {
		t.Errorf("%s/README.md lists %d codes, there are %d pages; it lists all of them in order", errorPages, len(listed), len(codes))
	}
	for _, code := range codes {
		name := filepath.Join(errorPages, code+".md")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# "+code+": ") {
			t.Errorf("%s: the first line is not %q and a meaning", name, "# "+code+":")
		}
		for _, want := range []string{"\n## What it looks like\n\n    ", "\n## What to do\n\n"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q", name, strings.TrimSpace(want))
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(codes, m[1]) {
				t.Errorf("%s: links to %s.md, which is not there", name, m[1])
			}
		}
	}
}

// codesInSource finds every code that our errors can have, and where: what methods `Code() string` return, constants of
// a type called Code whose values are codes, and the fields CodeText.
func codesInSource(t *testing.T) map[string]string {
	t.Helper()
	codes := map[string]string{}
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.path, "_test.go") || strings.HasPrefix(f.path, "qemu-tests/") {
			continue
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, f.path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		add := func(e ast.Expr) bool {
			lit, ok := e.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return false
			}
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if value != "" {
				codes[value] = set.Position(lit.Pos()).String()
			}
			return true
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && n.Name.Name == "Code" && n.Body != nil {
					ast.Inspect(n.Body, func(in ast.Node) bool {
						r, ok := in.(*ast.ReturnStmt)
						if !ok {
							return true
						}
						if _, field := r.Results[0].(*ast.SelectorExpr); !field && !add(r.Results[0]) {
							t.Errorf("%s: write the code out here, so that this test finds it", set.Position(r.Pos()))
						}
						return true
					})
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "CodeText" {
					add(n.Value)
				}
			case *ast.ValueSpec:
				if typ, ok := n.Type.(*ast.Ident); ok && typ.Name == "Code" {
					for _, v := range n.Values {
						if lit, ok := v.(*ast.BasicLit); ok && stableCode.MatchString(strings.Trim(lit.Value, `"`)) {
							add(lit)
						}
					}
				}
			}
			return true
		})
	}
	return codes
}
