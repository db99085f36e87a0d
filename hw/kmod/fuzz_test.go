//go:build !guest

package kmod

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func seed(f *testing.F, file string) string {
	f.Helper()
	b, err := os.ReadFile("testdata/tree/" + file)
	if err != nil {
		f.Fatal(err)
	}
	return string(b)
}

// Whatever stands in the files: an index that opens resolves every module of it, each once, what it needs before it,
// and its subset is the same index again.
func FuzzIndex(f *testing.F) {
	f.Add(seed(f, "modules.dep"), seed(f, "modules.softdep"), "", seed(f, "modules.alias"), seed(f, "modules.builtin"), seed(f, "modules.builtin.modinfo"))
	f.Add("k/a.ko: k/b.ko\nk/b.ko: k/a.ko\n", "softdep a pre: b post: b\nsoftdep b pre: a\n", "weakdep a a\n", "alias a b\n", "k/c.ko", "c.alias=a\x00c.softdep=pre: c a post: b\x00")
	// Built in and with a file too: what it would like to have is said once.
	f.Add("0/a.ko: 0/b.ko\n0/b.ko: 0/a.ko\n", "", "", "", "k/a.ko", "a.softdep=pre: c\x00")
	f.Add("a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n", "softdep c pre: s\nsoftdep s pre: a\n", "", "alias s a\n", "", "")
	f.Fuzz(func(t *testing.T, dep, soft, weak, alias, builtin, modinfo string) {
		if len(dep)+len(soft)+len(weak)+len(alias)+len(builtin)+len(modinfo) > 1<<14 {
			t.Skip("longer inputs only cost time")
		}
		files := map[string][]byte{
			"modules.dep": []byte(dep), "modules.softdep": []byte(soft), "modules.weakdep": []byte(weak),
			"modules.alias": []byte(alias), "modules.builtin": []byte(builtin), "modules.builtin.modinfo": []byte(modinfo),
		}
		x, err := Open(mapTree(files), "6.12")
		if err != nil {
			return
		}
		r, err := x.Resolve(x.files...)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		var keep []Module
		for _, s := range r.Load {
			if seen[s.Name] {
				t.Errorf("%s is loaded twice", s.Name)
			}
			seen[s.Name] = true
			keep = append(keep, s.Module)
		}
		for _, name := range x.files {
			if !seen[name] {
				t.Errorf("%s is missing", name)
			}
		}
		subset, err := x.Subset(keep)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Open(mapTree(subset), "6.12")
		if err != nil {
			t.Fatalf("what Subset wrote does not open: %v", err)
		}
		subset2, err := again.Subset(keep)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(subset, subset2); diff != "" {
			t.Errorf("a second round differs:\n%s", diff)
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	f.Add(`BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet console=ttyS0 dm_crypt.max_read_size=4096 modprobe.blacklist=nouveau,floppy module_blacklist=pcspkr -- single`)
	f.Add(`"dyndbg=file a.c +p" a-b.c="x y" "d.e=f g" h.i modprobe.blacklist="x,y" ..= =. "`)
	f.Fuzz(func(t *testing.T, line string) {
		c := ParseCommandLine(line)
		for module, list := range c.Options {
			if module == "" || strings.Contains(module, "-") {
				t.Errorf("module %q", module)
			}
			for _, p := range list {
				if p == "" {
					t.Errorf("%s has an empty parameter", module)
				}
			}
		}
	})
}

// A pattern without magic is equality; a star in front never makes less match.
func FuzzFnmatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"},
		{"hid:b0003g*v0000046Dp0000C52B", "hid:b0003g0001v0000046Dp0000C52B"}, {"usb:v05ACp*d*dc*dsc*dp*ic03isc01ip02in*", "usb:v05ACp"},
		{"usb:v0A5Cp21E[3-9a]d*", "usb:v0A5Cp21E7d0"}, {"[!a]b", "cb"}, {"[]-a]x", "]x"}, {"a[", "a["}, {`\*`, "*"}, {"*a*b*c", "xxaxxbxxaxxc"}, {"[a-", "[a-"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := fnmatch(pattern, s)
		if !wild(pattern) && got != (pattern == s) {
			t.Errorf("literal %q against %q: %v", pattern, s, got)
		}
		if !fnmatch("*"+pattern, s) && got {
			t.Errorf("%q matches %q, behind a star it does not", pattern, s)
		}
	})
}

func FuzzDecompress(f *testing.F) {
	elf := append([]byte("\x7fELF\x02\x01\x01"), bytes.Repeat([]byte("module "), 200)...)
	var gz, x, z bytes.Buffer
	w1 := gzip.NewWriter(&gz)
	w2, err := xz.NewWriter(&x)
	if err != nil {
		f.Fatal(err)
	}
	w3, err := zstd.NewWriter(&z)
	if err != nil {
		f.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{w1, w2, w3} {
		if _, err := w.Write(elf); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
	}
	f.Add("a.ko", elf)
	f.Add("a.ko.gz", gz.Bytes())
	f.Add("a.ko.xz", x.Bytes())
	f.Add("a.ko.zst", z.Bytes())
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		out, err := Decompress(name, bytes.NewReader(content))
		if err == nil && !bytes.HasPrefix(out, []byte("\x7fELF")) {
			t.Errorf("%q is no module", out[:min(8, len(out))])
		}
		if err == nil && len(out) > maxModule {
			t.Errorf("%d bytes", len(out))
		}
	})
}

func FuzzModprobeOptions(f *testing.F) {
	f.Add("-q\x00--\x00net-pf-38")
	f.Add("-va\x00-d\x00/root\x00-S6.1\x00a\x00b")
	f.Add("--set-version=6.1\x00--dirname\x00/x\x00loop\x00max_loop=8\x00lbs=a b")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseOptions(strings.Split(line, "\x00"))
		if err == nil && !o.remove && len(o.names) > 1 && o.parameters != "" {
			t.Errorf("%q: several modules share parameters", line)
		}
	})
}

func TestFnmatchAgreesWithTheShell(t *testing.T) {
	patterns := []string{"a*c", "a?c", "[a-c]x", "[!a-c]x", "[]a]x", "[a-]x", "[-a]x", `a\*`, `[\]]x`, "*", "", "**", "a[", "[", "*[0-9]*", "a*b*c", "[a-c-e]x", "?"}
	texts := []string{"", "a", "abc", "ac", "a/c", "ax", "bx", "dx", "]x", "-x", "a*", "ab", "a[", "[", "x9y", "axbxc", "axbxbc", "^x", "!x", `\x`, "ex"}
	var pairs []string
	for _, p := range patterns {
		for _, s := range texts {
			pairs = append(pairs, p, s)
		}
	}
	// A shell's case takes patterns by the same rules; arguments come in pairs.
	const script = `while [ $# -gt 0 ]; do case "$2" in $1) echo 1;; *) echo 0;; esac; shift 2; done`
	out, err := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, pairs...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(out))
	if 2*len(want) != len(pairs) {
		t.Fatalf("%d answers to %d questions", len(want), len(pairs)/2)
	}
	for i := range want {
		p, s := pairs[2*i], pairs[2*i+1]
		if got := fnmatch(p, s); got != (want[i] == "1") {
			t.Errorf("fnmatch(%q, %q) = %v", p, s, got)
		}
	}
}
