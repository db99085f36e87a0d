package initd_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateReadme = flag.Bool("update-readme", false, "rewrite README's table of faults from what the screens said")

// The table 'what happens when' is what the machines' screens said in the last run of the matrix whose results were
// kept: every fault has a line, and nobody edits it by hand.
func TestReadmeTellsWhatTheMatrixShowed(t *testing.T) {
	const begin, end = "<!-- what happens when: begin -->\n", "<!-- what happens when: end -->\n"
	screen := map[string][]string{}
	for _, r := range rowsOf(t, "qemu-tests/fault/results.tsv", 3) {
		screen[r[0]] = r
	}
	var table strings.Builder
	table.WriteString("| when | the screen says | what helps |\n|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, m := range rowsOf(t, "qemu-tests/fault/matrix.tsv", 6) {
		r := screen[m[0]]
		if r == nil {
			t.Errorf("the fault %s has no result: run the matrix with -update-results", m[0])
			continue
		}
		fmt.Fprintf(&table, "| %s | %s | `%s` |\n", cell.Replace(m[1]), cell.Replace(r[1]), r[2])
	}
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	have, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("README.md has no place for the table, between %q and %q", begin, end)
	}
	if *updateReadme {
		if err := os.WriteFile("README.md", []byte(head+begin+table.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), have); diff != "" {
		t.Errorf("README's table is not that of the results; go test . -run TestReadme -update-readme writes it (-want +got):\n%s", diff)
	}
}

// rowsOf reads a table of so many columns, without its head.
func rowsOf(t *testing.T, file string, columns int) [][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for i, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		r := strings.Split(l, "\t")
		if len(r) != columns {
			t.Fatalf("%s:%d: %d columns, want %d", file, i+1, len(r), columns)
		}
		if i > 0 {
			rows = append(rows, r)
		}
	}
	return rows
}
