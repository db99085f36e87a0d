package console

import (
	"bytes"
	"strings"
	"testing"

	"initd/hw/secret"
)

func newLine(t *testing.T) *line {
	t.Helper()
	b, err := secret.New(maxAnswer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Destroy)
	return &line{buf: b}
}

func TestEditing(t *testing.T) {
	tests := []struct {
		name, typed, want string
		last              outcome
	}{
		{"a line ends with return", "abc\r", "abc", entered},
		{"a line ends with newline", "abc\n", "abc", entered},
		{"backspace takes one character", "abd\x7fc\r", "abc", entered},
		{"^H does too", "abd\x08c\r", "abc", entered},
		{"backspace takes a letter of several bytes as a whole", "abü\x7fc\r", "abc", entered},
		{"backspace takes a byte that is no letter", "ab\xff\x7fc\r", "abc", entered},
		{"backspace at the start does nothing", "\x7f\x7fabc\r", "abc", entered},
		{"^U takes all", "wrong\x15abc\r", "abc", entered},
		{"^W takes a word", "one two  \x17abc\r", "one abc", entered},
		{"^W at the start does nothing", "\x17abc\r", "abc", entered},
		{"^C begins again", "wrong\x03", "", restart},
		{"arrow keys are no letters", "a\x1b[Ab\x1bOPc\r", "abc", entered},
		{"a terminal's report is no letter", "ab\x1b[24;80Rc\r", "abc", entered},
		{"a key with Alt is no letter", "ab\x1bxc\r", "abc", entered},
		{"control characters and a break are no letters", "a\x00b\x04\x01c\r", "abc", entered},
		{"spaces and tabs stay", " a\tb \r", " a\tb ", entered},
		{"letters of other scripts stay", "pässwörd\r", "pässwörd", entered},
		{"nothing is no answer", "\r", "", nothing},
		{"nothing is left is no answer", "ab\x7f\x7f\r", "", nothing},
		{"too much is refused as a whole", strings.Repeat("y", maxAnswer+1) + "\r", "", tooLong},
		{"too much can be taken back", strings.Repeat("y", maxAnswer+1) + "\x15abc\r", "abc", entered},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t)
			var last outcome
			for _, c := range []byte(tt.typed) {
				last = l.put(c)
			}
			if got := string(l.buf.Bytes()[:l.n]); got != tt.want || last != tt.last {
				t.Errorf("got %q, outcome %d; want %q, outcome %d", got, last, tt.want, tt.last)
			}
		})
	}
}

// Whatever is typed, the line stays within its memory, and what was taken back is gone from it.
func FuzzLine(f *testing.F) {
	f.Add([]byte("open\x7fn sesame\r"))
	f.Add([]byte("a\x1b[1;5Ab\x17\x15\x03ü\x7f\r"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		l := newLine(t)
		for _, c := range typed {
			got := l.put(c)
			if l.n < 0 || l.n > maxAnswer {
				t.Fatalf("%d bytes are held", l.n)
			}
			if got == entered && l.n == 0 {
				t.Fatal("nothing was taken for an answer")
			}
			if rest := l.buf.Bytes()[l.n:]; len(bytes.Trim(rest, "\x00")) != 0 {
				t.Fatal("what was taken back is still there")
			}
		}
	})
}
