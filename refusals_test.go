package initd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// refusalsPage lists why the converter refuses an image, by code.
const refusalsPage = "docs/v2v/refusals.md"

var (
	refusalCode  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	refusalEntry = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")
	refusalWord  = regexp.MustCompile("`([a-z0-9-]+)`")
)

// TestEveryRefusalHasItsEntry: a code that v2v says is explained on the page, and the page explains no code that nothing says any more.
func TestEveryRefusalHasItsEntry(t *testing.T) {
	codes := refusalCodes(t)
	if len(codes) < 30 {
		t.Fatalf("only %d codes found in the source: this test reads it wrongly", len(codes))
	}
	page, err := os.ReadFile(refusalsPage)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]bool{}
	for _, row := range refusalEntry.FindAllStringSubmatch(string(page), -1) {
		for _, m := range refusalWord.FindAllStringSubmatch(row[1], -1) {
			if entries[m[1]] {
				t.Errorf("%s explains %s twice", refusalsPage, m[1])
			}
			entries[m[1]] = true
		}
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		switch {
		case !refusalCode.MatchString(code):
			t.Errorf("%s: the code %q is not of the form format-what", codes[code], code)
		case !entries[code]:
			t.Errorf("%s: the code %s has no entry in %s: write | `%s` | when it is said | what helps |", codes[code], code, refusalsPage, code)
		}
	}
	for code := range entries {
		if codes[code] == "" {
			t.Errorf("%s explains %s, which nothing says", refusalsPage, code)
		}
	}
}

// refusalCodes finds the codes in the source of v2v, with a file that says each: the field Code of literals, what is given to functions for a
// parameter of the name code, and to variables of that name. Constants are looked up by name.
func refusalCodes(t *testing.T) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	parsed := map[string]*ast.File{}
	consts := map[string]string{}
	params := map[string]int{} // package and function -> index of its parameter code
	for _, f := range goFiles(t) {
		if (f.pkg != "v2v" && !strings.HasPrefix(f.pkg, "v2v/")) || f.pkg == "v2v/image/imagetest" || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, f.path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed[f.path] = file
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if i < len(n.Values) {
						if s, ok := stringLiteral(n.Values[i]); ok {
							consts[name.Name] = s
						}
					}
				}
			case *ast.FuncDecl:
				if i := codeParam(n.Type); i >= 0 {
					params[pathpkg.Base(f.pkg)+"."+n.Name.Name] = i
				}
			}
			return true
		})
	}
	codes := map[string]string{}
	for path, file := range parsed {
		note := func(e ast.Expr) {
			s, ok := stringLiteral(e)
			if !ok {
				s = consts[lastName(e)]
			}
			if s != "" {
				codes[s] = path
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
					note(n.Value)
				}
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if lastName(to) == "code" && i < len(n.Rhs) {
						note(n.Rhs[i])
					}
				}
			case *ast.CallExpr:
				if i, ok := params[calledIn(path, n.Fun)+"."+lastName(n.Fun)]; ok && i < len(n.Args) {
					note(n.Args[i])
				}
			}
			return true
		})
	}
	return codes
}

func codeParam(f *ast.FuncType) int {
	i := 0
	for _, field := range f.Params.List {
		for _, name := range field.Names {
			if name.Name == "code" {
				if id, ok := field.Type.(*ast.Ident); ok && id.Name == "string" {
					return i
				}
			}
			i++
		}
	}
	return -1
}

func stringLiteral(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// calledIn is the package that a function belongs to: the one before the dot, or the file's own for functions and methods.
func calledIn(path string, fun ast.Expr) string {
	if sel, ok := fun.(*ast.SelectorExpr); ok {
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == "image" {
			return id.Name
		}
	}
	return pathpkg.Base(pathpkg.Dir(path))
}

// lastName is the name behind the last dot.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
