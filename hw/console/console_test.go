package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestActive(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/class/tty/console")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, content string
		want          []string
	}{
		{"two consoles, the preferred one last", "tty0 ttyS0\n", []string{"/dev/tty0", "/dev/ttyS0"}},
		{"none", "\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "active"), []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := Active(root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("consoles (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStoppedConsoleLosesTheOldestLinesAndIsToldHowMany(t *testing.T) {
	p := newTypist(t)
	p.stop()
	w, err := Open(p.tty.Name())
	if err != nil {
		t.Fatal(err)
	}
	const lines = 4 * queueSize
	for i := range lines {
		w.Line(fmt.Sprintf("line %d \x1b[31mü", i)) // returns at once, or the test hangs
	}
	w.Line("the last")
	w.Close()
	screen := p.sees("the last\r")
	select {
	case <-w.Done():
	case <-time.After(hang):
		t.Fatal("Done is not closed")
	}
	if strings.Contains(screen, "\x1b") || !strings.Contains(screen, " ?[31m?\r") {
		t.Error("an escape code or a letter beyond ASCII went through")
	}
	shown, lost := len(regexp.MustCompile(`line [0-9]+ `).FindAllString(screen, -1)), 0
	for _, m := range regexp.MustCompile(`\(([0-9]+) lines were lost here`).FindAllStringSubmatch(screen, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		lost += n
	}
	if lost == 0 || shown+lost != lines {
		t.Errorf("%d lines are shown and %d said to be lost, want %d in all", shown, lost, lines)
	}
}

func TestLinesGoAboveAQuestionThatIsAskedMeanwhile(t *testing.T) {
	p := newTypist(t)
	w, err := Open(p.tty.Name())
	if err != nil {
		t.Fatal(err)
	}
	w.Line("before")
	p.sees("before\r\n")
	w.Foot("Passphrase: ")
	w.Line("meanwhile")
	if got, want := p.sees("Passphrase: "), "\r\nmeanwhile\r\nPassphrase: "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.Foot("")
	w.Line("after")
	if got, want := p.sees("after\r\n"), "\r\nafter\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.Line("the end")
	if got, want := p.sees("the end\r\n"), "the end\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.Close()
	<-w.Done()
}

func TestDrainGivesAStoppedConsoleUp(t *testing.T) {
	p := newTypist(t)
	p.stop()
	w, err := Open(p.tty.Name())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * batchSize {
		w.Line("nobody reads this")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := w.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	select {
	case <-w.Done():
	case <-time.After(hang):
		t.Fatal("the writer is still there")
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		columns    int
		want       []string
	}{
		{"a short line stays", "tank0 is open", 20, []string{"tank0 is open"}},
		{"nothing is one line", "", 20, []string{""}},
		{"a long one breaks at a space", "tank0 waits for kms-a and kms-b", 16, []string{"tank0 waits for", "  kms-a and", "  kms-b"}},
		{"a line that fits exactly stays", "1234567890", 10, []string{"1234567890"}},
		{"a long word is cut", "tank0 abcdefghijklmnop", 10, []string{"tank0", "  abcdefgh", "  ijklmnop"}},
		{"what moves a cursor does not go through", "a\r\nb\tü", 10, []string{"a??b??"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Wrap(tt.text, tt.columns, "  ")); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWrapKeepsEveryWordAndEveryBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~]{0,200}`).Draw(t, "text")
		columns := rapid.IntRange(1, 90).Draw(t, "columns")
		indent := strings.Repeat(" ", rapid.IntRange(0, 8).Draw(t, "indent"))
		var all strings.Builder
		for _, line := range Wrap(text, columns, indent) {
			if len(line) > columns {
				t.Fatalf("line %q is longer than %d", line, columns)
			}
			all.WriteString(strings.ReplaceAll(line, " ", ""))
		}
		if got, want := all.String(), strings.ReplaceAll(text, " ", ""); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
