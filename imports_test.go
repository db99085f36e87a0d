package initd_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A rule says what the packages that match it may import of this module. The first rule that matches a package is its
// rule; a package without one is an error, so that a new room of the house comes with its line here.
// Patterns are paths below the module; "x/..." is x and all below it.
type rule struct {
	pkg     string
	may     []string
	because string
}

var rules = []rule{
	{"initd/pid1", []string{"initd/pid1/..."}, "PID 1 is tiny: what it links, it can crash with"},
	{"initd/pid1/wire", nil, "init and initd are upgraded apart; the protocol depends on neither"},
	{"initd/pid1/...", []string{"initd/pid1/..."}, "PID 1 is tiny: what it links, it can crash with"},
	{"initd/cli", nil, "a leaf: all programs refuse calls alike, whatever they do"},
	{"initd/...", []string{"initd/...", "boot/...", "shutdown/...", "hw/..."}, "the program wires what the others decide and do"},

	{"boot/report", nil, "events are a leaf, or shutdown would drag in the engine"},
	{"boot/appliance", nil, "the file's types are read by editors and images, far from any machine"},
	{"boot/plan", []string{"boot/appliance"}, "compiling is pure: a plan can be made on any laptop"},
	{"boot/engine", []string{"boot/plan", "boot/report"}, "the engine knows actions, no hardware"},
	{"boot/engine/enginetest", []string{"boot/engine", "boot/plan"}, "the conformance suite of actions; tests of kinds import it"},
	{"boot/step", []string{"boot/appliance", "boot/plan", "boot/engine", "boot/report", "hw/..."},
		"a kind's expansion, action and child's function stand side by side; what they need of initd they declare as interfaces"},

	{"hw/sysfs", nil, "a leaf: one rooted view of kernel files"},
	{"hw/secret", nil, "a leaf: key material touches as little code as can be"},
	{"hw/confine", nil, "a leaf: what confines a process can be read whole"},
	{"hw/uevent", []string{"hw/sysfs"}, "a leaf: the kernel's events"},
	{"hw/dm/...", []string{"hw/dm/...", "hw/sysfs", "hw/secret"}, "a leaf: device mapper; tables carry keys"},
	{"hw/block/...", []string{"hw/block/...", "hw/sysfs", "hw/uevent"}, "a leaf: what a device is, from sysfs, udev's words and its content"},
	{"hw/...", []string{"hw/sysfs", "hw/secret", "hw/confine", "hw/uevent", "hw/dm/...", "hw/block/..."}, "each mechanism is a library, usable alone: leaves, and otherwise the written list"},

	{"shutdown/...", []string{"shutdown/...", "hw/...", "boot/report"}, "the way down reads the live stack, whoever set it up"},
	{"images/cpio", nil, "an archive writer knows no appliance"},
	{"images/...", []string{"images/...", "initd/cli", "boot/appliance", "boot/plan", "boot/step", "hw/kmod", "hw/block/..."}, "an image is made of a file, anywhere"},
	{"v2v/...", []string{"v2v/...", "hw/...", "initd/cli", "initd/manpage"}, "the converter is a program of its own"},
	{"tests/...", nil, "helpers of tests: a leaf each, so that every test can use them"},
	{"qemu-tests/...", []string{"..."}, "tests see everything, and nobody sees them"},
}

// hwList is the written list: a mechanism of hw that needs another one which is no leaf.
var hwList = []rule{
	{"hw/mount", []string{"hw/kmod"}, "a file system's module may have to be asked for"},
	{"hw/watchdog", []string{"hw/kmod"}, "softdog is a module"},
}

// libraryRules bound who may link a library: only the packages listed.
var libraryRules = []rule{
	{"github.com/ovh/kmip-go", []string{"hw/kmip/...", "qemu-tests/..."}, "one package speaks KMIP; the rest says key and server"},
	{"github.com/anatol/luks.go", []string{"hw/luks/...", "qemu-tests/..."}, "one package reads LUKS headers"},
	{"github.com/anatol/devmapper.go", []string{"hw/dm/...", "hw/luks/...", "qemu-tests/..."}, "one package speaks to device mapper"},
	{"github.com/u-root/u-root", []string{"images/...", "hw/kmod", "qemu-tests/..."}, "a toolbox: each use of it is chosen"},
	{"github.com/spf13/cobra", []string{"initd", "images", "v2v", "initd/cli", "initd/manpage"}, "only mains have a command line"},
	{"github.com/nats-io", []string{"v2v/job/...", "qemu-tests/..."}, "one package speaks NATS; the rest says job"},
	{"net/http", []string{"qemu-tests/..."}, "it costs initd megabytes, and nothing here speaks HTTP"},
	{"os/exec", []string{"initd/...", "boot/step", "hw/...", "shutdown/...", "images/...", "v2v/...", "tests/role", "qemu-tests/..."}, "deciding packages start nothing"},
	{"C", []string{"initd/rbdhelper"}, "everything is static, but for the one helper that links Ceph's client"},
}

// transitiveBans hold for all that a program links, libraries included.
var transitiveBans = []struct {
	pkg, banned, because string
}{
	{"initd/pid1", "net", "it costs PID 1 a megabyte, and PID 1 talks to nobody but initd"},
	{"initd/pid1", "encoding/json", "it costs PID 1 a megabyte; the protocol has fixed-size records"},
	{"initd/pid1", "os/exec", "it reaps its own children, beside the one wait4(-1) of PID 1"},
	{"initd", "testing", "a test helper leaked into the program"},
	{"initd", "initd/qemu-tests/vm", "the harness leaked into the program"},
}

// TestImportsPointOneWay reads the imports of every file that is not a test. Tests may reach further (a real server, a
// sibling mechanism), but nobody outside qemu-tests may import qemu-tests, tests included.
func TestImportsPointOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		imports := f.imports(t)
		if strings.HasSuffix(f.path, "_test.go") {
			for _, imp := range imports {
				if inside, ok := strings.CutPrefix(imp, "initd/qemu-tests/"); ok && !matches("qemu-tests/...", f.pkg) {
					t.Errorf("%s imports qemu-tests/%s: the code under test must build and pass without the harness", f.path, inside)
				}
			}
			continue
		}
		r, ok := ruleOf(f.pkg)
		if !ok {
			t.Errorf("%s: package %s has no line in the import rules; say what it may import, and because of what", f.path, f.pkg)
			continue
		}
		for _, imp := range imports {
			if ours, ok := strings.CutPrefix(imp, "initd/"); ok {
				if !mayImport(r, f.pkg, ours) {
					t.Errorf("%s: %s may not import %s, because %s", f.path, f.pkg, ours, r.because)
				}
				continue
			}
			for _, lib := range libraryRules {
				if (imp == lib.pkg || strings.HasPrefix(imp, lib.pkg+"/")) && !slices.ContainsFunc(lib.may, func(p string) bool { return matches(p, f.pkg) }) {
					t.Errorf("%s: %s may not import %s, because %s", f.path, f.pkg, imp, lib.because)
				}
			}
		}
	}
}

// TestProgramsLinkOnlyWhatTheyMay asks the go command, which knows what libraries pull in.
func TestProgramsLinkOnlyWhatTheyMay(t *testing.T) {
	programs := map[string]bool{}
	for _, f := range goFiles(t) {
		programs[f.pkg] = true
	}
	deps := map[string][]string{}
	for _, ban := range transitiveBans {
		if !programs[ban.pkg] {
			t.Errorf("there is no package %s: its bans check nothing", ban.pkg)
			continue
		}
		if deps[ban.pkg] == nil {
			out, err := exec.Command("go", "list", "-deps", "./"+ban.pkg).Output()
			if err != nil {
				t.Fatalf("go list -deps ./%s: %v", ban.pkg, err)
			}
			deps[ban.pkg] = strings.Fields(string(out))
		}
		if slices.Contains(deps[ban.pkg], ban.banned) {
			t.Errorf("%s links %s, because of some import: it may not, because %s", ban.pkg, ban.banned, ban.because)
		}
	}
}

func TestImportRulesMatchAsWritten(t *testing.T) {
	for _, tc := range []struct {
		name         string
		pkg, imports string
		want         bool
	}{
		{"the engine may read a plan", "boot/engine", "boot/plan", true},
		{"the engine knows no hardware", "boot/engine", "hw/dm", false},
		{"a mechanism may use a leaf", "hw/luks", "hw/secret", true},
		{"a mechanism may not use its sibling", "hw/luks", "hw/link", false},
		{"boot never imports initd", "boot/step", "initd/child", false},
		{"init may use its protocol", "initd/pid1", "initd/pid1/wire", true},
		{"init may not use hw", "initd/pid1", "hw/sysfs", false},
		{"nothing imports the tests", "initd", "qemu-tests/vm", false},
		{"the tests import anything", "qemu-tests/scenario", "boot/report", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, ok := ruleOf(tc.pkg)
			if !ok {
				t.Fatalf("no rule for %s", tc.pkg)
			}
			if got := mayImport(r, tc.pkg, tc.imports); got != tc.want {
				t.Errorf("%s may import %s: got %v, want %v", tc.pkg, tc.imports, got, tc.want)
			}
		})
	}
}

func ruleOf(pkg string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.pkg, pkg) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

func mayImport(r rule, pkg, imported string) bool {
	for _, p := range r.may {
		if matches(p, imported) {
			return true
		}
	}
	for _, extra := range hwList {
		if matches(extra.pkg, pkg) && slices.Contains(extra.may, imported) {
			return true
		}
	}
	return false
}

// matches tells whether a path below the module fits a pattern.
func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pattern == pkg
}

// goFile is one Go file of the module; pkg is its folder below the module, "." for the root.
type goFile struct {
	path, pkg string
}

func (f goFile) imports(t *testing.T) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatalf("read the imports: %v", err)
	}
	var paths []string
	for _, spec := range parsed.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", f.path, spec.Path.Value, err)
		}
		paths = append(paths, p)
	}
	return paths
}

// goFiles lists the module's Go files under every build tag; the go command would leave some out.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (name == "out" || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(p, ".go") {
			files = append(files, goFile{path: p, pkg: path.Dir(p)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found: this test checks nothing")
	}
	return files
}
