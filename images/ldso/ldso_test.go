package ldso

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the dynamic linker itself says that a program loads is the oracle: following Read and Candidates from the
// program finds the same libraries at the same places.
func TestTheLinkersOwnListIsFound(t *testing.T) {
	linker := "/lib64/ld-linux-x86-64.so.2"
	for _, program := range []string{"/usr/bin/apt-get", "/usr/sbin/e2fsck", "/usr/bin/qemu-img"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%v: install the packages apt, e2fsprogs and qemu-utils", err)
		}
		out, err := exec.Command(linker, "--inhibit-cache", "--list", program).Output()
		if err != nil {
			t.Fatalf("%s --list %s: %v", linker, program, err)
		}
		want := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			if _, file, ok := strings.Cut(line, " => "); ok {
				file, _, _ = strings.Cut(file, " (")
				want[canonical(t, file)] = true
			}
		}
		got := map[string]bool{}
		follow(t, program, got)
		delete(got, canonical(t, program))
		delete(got, canonical(t, linker)) // listed without an arrow
		for file := range want {
			if !got[file] && file != canonical(t, linker) {
				t.Errorf("%s: %s is not found", program, file)
			}
		}
		for file := range got {
			if !want[file] {
				t.Errorf("%s: %s is found, and the linker does not load it", program, file)
			}
		}
		if len(want) < 3 {
			t.Errorf("%s: the linker lists only %v", program, want)
		}
	}
}

func canonical(t *testing.T, file string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

func follow(t *testing.T, file string, seen map[string]bool) {
	t.Helper()
	file = canonical(t, file)
	if seen[file] {
		return
	}
	seen[file] = true
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := Read(f, file)
	if err != nil {
		t.Fatal(err)
	}
	for _, needed := range o.Needed {
		i := slices.IndexFunc(o.Candidates(needed), func(c string) bool { _, err := os.Stat(c); return err == nil })
		if i < 0 {
			t.Errorf("%s needs %s, which is at none of %v", file, needed, o.Candidates(needed))
			continue
		}
		follow(t, o.Candidates(needed)[i], seen)
	}
}

func TestRunPathsComeFirst(t *testing.T) {
	o := Object{RunPath: []string{"/opt/x/lib"}}
	if got := o.Candidates("liba.so.1"); got[0] != "/opt/x/lib/liba.so.1" || got[1] != "/lib/x86_64-linux-gnu/liba.so.1" {
		t.Errorf("got %v", got)
	}
	if got := o.Candidates("/opt/liba.so"); len(got) != 1 || got[0] != "/opt/liba.so" {
		t.Errorf("got %v", got)
	}
}

func TestWhatIsNoProgramIsSaidToBeNone(t *testing.T) {
	for _, content := range []string{"", "#!/bin/sh\n", "\x7fEL"} {
		if _, err := Read(bytes.NewReader([]byte(content)), "/x"); !errors.Is(err, ErrNot) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := Read(bytes.NewReader([]byte("\x7fELF and then nothing")), "/x"); err == nil || errors.Is(err, ErrNot) {
		t.Errorf("a damaged ELF file: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	// The head of a real program: headers, interpreter and dynamic strings.
	for _, name := range []string{"/usr/sbin/e2fsck", "/bin/sh"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 1<<14)])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		o, err := Read(bytes.NewReader(content), "/usr/bin/x")
		if err == nil {
			for _, n := range o.Needed {
				o.Candidates(n)
			}
		}
	})
}
