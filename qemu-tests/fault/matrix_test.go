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

// entries reads a screen. The live lines and the kernel's own lines are not entries.
func entries(lines []string) []entry {
	var list []entry
	live := false
	for _, l := range lines {
		if i := strings.LastIndex(l, "\r"); i >= 0 {
			l = l[i+1:]
		}
		l = strings.TrimRight(l, " ")
		if m := entryMore.FindStringSubmatch(l); m != nil && live {
			continue
		} else if m != nil && len(list) > 0 {
			last := &list[len(list)-1]
			if next, ok := strings.CutPrefix(m[1], "next: "); ok {
				last.next = next
			} else {
				last.text += " " + m[1]
			}
		} else if m := entryStart.FindStringSubmatch(l); m != nil {
			if live = strings.HasPrefix(m[1], "waiting "); !live {
				list = append(list, entry{text: m[1]})
			}
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
			if unit := f.unit(); unit != "" {
				m.WaitEventAfter(seen[len(seen)-1], f.id+" is healed", f.isHealed, vm.Guard)
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

// isHealed tells whether an event is what follows when the command was typed. What an attempt of initd's own has mended
// meanwhile is adopted by the one that was ordered.
func (f fault) isHealed(e vm.Event) bool {
	_, state, _ := strings.Cut(f.healed, " ")
	return room.Unit(f.unit(), state)(e) || state == "done" && room.Unit(f.unit(), "adopted")(e)
}

// unit is what heals, or is left out; "" where it is no unit that the command changes.
func (f fault) unit() string {
	id, _, ok := strings.Cut(f.healed, " ")
	if ok && (strings.Contains(id, "/") || id == "time") {
		return id
	}
	return ""
}

// shows tells whether an event is the first trouble that a fault makes, of the unit that heals or of the one whose
// command helps.
func (f fault) shows(e vm.Event) bool {
	id := f.unit()
	units := []string{id}
	if command := strings.Fields(f.next); len(command) == 3 {
		units = append(units, command[2])
	}
	if name, ok := strings.CutPrefix(f.next, "initd keys unlock "); ok {
		units = append(units, "key/"+name)
	}
	return id != "" && slices.ContainsFunc(units, func(u string) bool {
		return room.Unit(u, "degraded")(e) || room.Unit(u, "failed")(e) || room.Unit(u, "waiting")(e) && e.Field("error") != ""
	})
}

// heals types commands on the machine, after what has to be mended outside of it has been.
func heals(m *vm.VM, mend map[string]func(*testing.T, *vm.VM), keys map[string]string) func(*testing.T, fault, string) {
	return func(t *testing.T, f fault, command string) {
		if mend := mend[f.id]; mend != nil {
			mend(t, m)
		}
		if name, ok := strings.CutPrefix(command, "initd keys unlock "); ok {
			if keys[name] == "" {
				t.Fatalf("nobody can type a key into %q", command)
			}
			room.Hand(t, m, "unlock", name, keys[name])
			return
		}
		if args, ok := strings.CutPrefix(command, "cp "); ok { // the image has no cp, and the hands do the same
			from, to, _ := strings.Cut(args, " ")
			room.Hand(t, m, "copy", from, to)
			command = "initd version"
		}
		got := room.Hand(t, m, "run", "/usr/bin/initd", strings.TrimPrefix(command, "initd "))
		want := "0"
		if code, ok := strings.CutPrefix(f.healed, "exit "); ok {
			want = code
		}
		if got.Field("status") != want {
			t.Errorf("%s ends with %s, want %s:\n%s", command, got.Field("status"), want, got.Field("text"))
		}
	}
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
	for _, list := range [][]string{keyFaultIDs(), mediaFaultIDs(), fabricFaultIDs()} {
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
	if n < 80 {
		t.Errorf("the matrix has %d rows, want 80 at least", n)
	}
}
