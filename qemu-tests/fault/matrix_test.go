package fault

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// updateResults rewrites the table of results from what the screens said.
var updateResults = flag.Bool("update-results", false, "rewrite qemu-tests/fault/results.tsv from this run")

// fault is a row of qemu-tests/fault/matrix.tsv. object and cause are facts: regular expressions, joined by " & ",
// that the first entry on the screen which names the fault has to match. next is the command that the screen
// must give; healed is what follows when it is typed as it stands.
type fault struct {
	id, injection, object, cause, next, healed string
}

const matrixFile = "matrix.tsv"

// matrix reads the rows of some ids; each id must have one.
func matrix(t *testing.T, ids []string) []fault {
	t.Helper()
	var list []fault
	for _, f := range readMatrix(t) {
		if slices.Contains(ids, f.id) {
			list = append(list, f)
		}
	}
	if len(list) != len(ids) {
		t.Fatalf("the matrix has %d of the %d rows %q", len(list), len(ids), ids)
	}
	return list
}

func readMatrix(t *testing.T) []fault {
	t.Helper()
	var list []fault
	for _, r := range readTSV(t, matrixFile, []string{"id", "injection", "object", "cause", "next", "healed"}) {
		list = append(list, fault{r[0], r[1], r[2], r[3], r[4], r[5]})
	}
	return list
}

func readTSV(t *testing.T, file string, head []string) [][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, len(head)
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], head) {
		t.Fatalf("%s: want a first line of %q and rows", file, head)
	}
	return rows[1:]
}

// entry is what one event is worth on the screen: a line, what hangs below it, and the command that helps.
type entry struct {
	text, next string
}

var (
	entryStart = regexp.MustCompile(`^\[ *\d+\.\d{3}\] (\S.*)$`)
	entryMore  = regexp.MustCompile(`^\[ *\d+\.\d{3}\] {3,}(\S.*)$`)
)

// entries reads a screen. The live line and the kernel's own lines are not entries.
func entries(lines []string) []entry {
	var list []entry
	for _, l := range lines {
		if i := strings.LastIndex(l, "\r"); i >= 0 {
			l = l[i+1:]
		}
		l = strings.TrimRight(l, " ")
		if m := entryMore.FindStringSubmatch(l); m != nil && len(list) > 0 {
			last := &list[len(list)-1]
			if next, ok := strings.CutPrefix(m[1], "next: "); ok {
				last.next = next
			} else {
				last.text += " " + m[1]
			}
		} else if m := entryStart.FindStringSubmatch(l); m != nil && !strings.HasPrefix(m[1], "waiting ") {
			list = append(list, entry{text: m[1]})
		}
	}
	return list
}

// names tells whether an entry matches each of the facts.
func (e entry) names(facts string) bool {
	for f := range strings.SplitSeq(facts, " & ") {
		if !regexp.MustCompile("(?i)" + f).MatchString(e.text) {
			return false
		}
	}
	return true
}

var troubled = regexp.MustCompile(`\b(degraded|failed|stuck|halted|attempt \d+ of \d+)\b|^note `)

// first is the first entry that tells of trouble with the object.
func first(list []entry, object string) (entry, bool) {
	subject, _, _ := strings.Cut(object, " & ")
	re := regexp.MustCompile(`(^|\s)(` + subject + `)(\s|:|$)`)
	for _, e := range list {
		if troubled.MatchString(e.text) && re.MatchString(e.text) {
			return e, true
		}
	}
	return entry{}, false
}

// score checks the rows against a screen on which all of them have shown, types the commands, and waits until they
// have healed. do types one.
func score(t *testing.T, m *vm.VM, rows []fault, do func(t *testing.T, f fault, command string)) {
	t.Helper()
	list := entries(m.Console().Lines())
	good := 0
	for _, f := range rows {
		t.Run(f.id, func(t *testing.T) {
			e, ok := first(list, f.object)
			if !ok {
				t.Fatalf("%s: the screen says nothing of it", f.injection)
			}
			t.Logf("%s\n\t%s\n\tnext: %s", f.injection, e.text, e.next)
			if !e.names(f.object) {
				t.Errorf("the first entry does not name the object %q: %s", f.object, e.text)
			}
			if !e.names(f.cause) {
				t.Errorf("the first entry does not name the cause %q: %s", f.cause, e.text)
			}
			if e.next != f.next {
				t.Errorf("the screen's next command is %q, want %q", e.next, f.next)
				return
			}
			seen := m.Events()
			do(t, f, e.next)
			if unitID, state, ok := strings.Cut(f.healed, " "); ok && strings.Contains(unitID, "/") || unitID == "time" {
				m.WaitEventAfter(seen[len(seen)-1], f.id+" is healed", room.Unit(unitID, state), vm.Guard)
			}
			if *updateResults {
				note(t, f, e)
			}
			if !t.Failed() {
				good++
			}
		})
	}
	t.Logf("%d of %d faults: object, cause and a command that heals", good, len(rows))
}

const resultsFile = "results.tsv"

// note writes what the screen said of a fault into the table of results.
func note(t *testing.T, f fault, e entry) {
	t.Helper()
	rows := map[string]string{}
	if b, err := os.ReadFile(resultsFile); err == nil {
		for l := range strings.Lines(string(b)) {
			id, _, _ := strings.Cut(l, "\t")
			rows[id] = l
		}
	}
	text := regexp.MustCompile(`^\S+ +`).ReplaceAllString(e.text, "")
	rows[f.id] = fmt.Sprintf("%s\t%s\t%s\n", f.id, strings.Join(strings.Fields(text), " "), e.next)
	out := "id\tscreen\tnext\n"
	for _, m := range readMatrix(t) {
		out += rows[m.id]
	}
	if err := os.WriteFile(filepath.FromSlash(resultsFile), []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every row of the matrix has a machine that suffers it.
func TestEveryFaultIsInjected(t *testing.T) {
	have := map[string]bool{}
	for _, list := range [][]string{keyFaultIDs(), mediaFaultIDs()} {
		for _, id := range list {
			have[id] = true
		}
	}
	n := 0
	for _, f := range readMatrix(t) {
		n++
		if !have[f.id] {
			t.Errorf("the fault %s (%s) is injected nowhere", f.id, f.injection)
		}
		for _, facts := range []string{f.object, f.cause} {
			for x := range strings.SplitSeq(facts, " & ") {
				if _, err := regexp.Compile(x); err != nil || x == "" {
					t.Errorf("%s: fact %q: %v", f.id, x, err)
				}
			}
		}
		delete(have, f.id)
	}
	for id := range have {
		t.Errorf("the matrix has no row for the fault %s", id)
	}
	if n < 40 {
		t.Errorf("the matrix has %d rows, want 40 at least", n)
	}
}
