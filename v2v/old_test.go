package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/v2v/formats"
)

func TestTheEquivalentIsWhatAShellReadsBack(t *testing.T) {
	words := []string{"v2v", "convert", "plain-1.vmdk", "a b", "it's", "", "$HOME", "`id`", "a\nb", "\x1b[2J", "ü", "a\\b", "*", "\xff'"}
	line := shellQuoted(words)
	if strings.ContainsAny(line, "\n\x1b") {
		t.Errorf("control characters in %q", line)
	}
	out, err := exec.Command("bash", "-c", `printf '%s\0' `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Join(words, "\x00")+"\x00", string(bytes.Clone(out))); diff != "" {
		t.Error(diff)
	}
}

func TestOldPath(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"padded", "L3Zhci9hYg==", "/var/ab"},
		{"without padding", "L3Zhci9hYg", "/var/ab"},
		{"the alphabet for URLs", "Pz8_", "???"},
		{"the usual alphabet", "Pz8/", "???"},
		{"nothing", "", ""},
		{"no base64", "!!", ""},
		{"a zero byte", "AGE=", ""},
	} {
		got, err := oldPath(tc.in)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
}

func TestEveryOldFormatIsOneThatCanBeWritten(t *testing.T) {
	for word, f := range oldFormats() {
		format, err := formats.ByName(f.format)
		if err != nil || format.Create == nil {
			t.Errorf("%s: %s cannot be written: %v", word, f.format, err)
			continue
		}
		if _, err := format.ParseOptions(known(f)); err != nil {
			t.Errorf("%s: %v", word, err)
		}
		if strings.HasSuffix(word, "_FLAT") && len(f.options) > 0 && len(known(f)) == 0 {
			t.Errorf("%s: %s has no subformats, so flat is not what it becomes", word, f.format)
		}
	}
}
