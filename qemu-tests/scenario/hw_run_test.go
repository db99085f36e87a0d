package scenario

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"initd/qemu-tests/guest/plan"
	"initd/qemu-tests/vm"
)

// packageGuard bounds the tests of one package; each is a few seconds on a quiet machine.
const packageGuard = 5 * time.Minute

// runRows boots one machine for all rows and reports each of their tests.
func runRows(t *testing.T, rows ...row) {
	image := vm.NewImage(t).GoProgram("/init", "./qemu-tests/guest")
	options := []vm.Option{vm.Name("guest"), vm.Memory(memoryOf(rows))}
	for _, r := range rows {
		if r.Tables != nil {
			options = append(options, vm.QEMU(r.Tables(t)...))
		}
	}
	machine := vm.New(t, options...)
	var p plan.Plan
	packages := make([]string, len(rows))
	for i, r := range rows {
		packages[i] = r.Package
	}
	programs := vm.BuildTests(t, packages...)
	for i, r := range rows {
		image.Modules(r.Modules...).Carry(r.Carry...).Program(r.Programs...).Host(r.Host...)
		for at, pkg := range r.Ours {
			image.GoProgram(at, pkg)
		}
		if r.Disks != nil {
			machine.Disk(r.Disks(t)...)
		}
		for _, mac := range r.Cards {
			machine.Wire(vm.NewWire(t, "card-"+mac), mac)
		}
		p.Tests = append(p.Tests, addTests(t, image, r, programs[i]))
	}
	machine.Initramfs(image.JSON(plan.Path, p).Write("guest")).Start()
	for _, r := range rows {
		t.Run(strings.TrimPrefix(r.Package, "./"), func(t *testing.T) { report(t, machine, r) })
	}
	machine.WaitEvent("all tests are through", vm.Is("end"), vm.Guard)
	if exit := machine.Exited(vm.Guard); exit.Reason != "guest-shutdown" {
		t.Errorf("the machine ended with %v, want a power-off", exit)
	}
}

func memoryOf(rows []row) int {
	memory := 1024
	for _, r := range rows {
		memory = max(memory, r.Memory)
	}
	return memory
}

// addTests puts a row's test program into the image, with the package's testdata.
func addTests(t *testing.T, image *vm.Image, r row, program string) plan.Test {
	t.Helper()
	names := guestTests(t, r.Package)
	if len(names) == 0 {
		t.Fatalf("%s has a row and no guest tests", r.Package)
	}
	base := filepath.Join("/tests", r.Package)
	image.File(filepath.Join(base, "tests"), program, 0o755)
	data := filepath.Join(vm.Root(t), r.Package, "testdata")
	if _, err := os.Stat(data); err == nil {
		image.Tree(filepath.Join(base, "testdata"), data)
	}
	return plan.Test{
		Package: r.Package,
		Program: filepath.Join(base, "tests"),
		Dir:     base,
		Args: []string{"-test.v", "-test.timeout", packageGuard.String(), "-test.paniconexit0",
			"-test.run", "^(" + strings.Join(names, "|") + ")$"},
	}
}

// result is how a line of `go test -v` closes a test of the first level.
var result = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(`)

// report waits for a row's tests and makes each one a subtest here.
func report(t *testing.T, machine *vm.VM, r row) {
	done := machine.WaitEvent(r.Package+" is through", vm.Is("test", "package", r.Package), packageGuard+vm.Guard)
	var output []string
	verdicts := map[string]string{}
	for _, e := range machine.Events() {
		if !vm.Is("output", "package", r.Package)(e) {
			continue
		}
		line := e.Field("line")
		output = append(output, line)
		if m := result.FindStringSubmatch(line); m != nil {
			verdicts[m[2]] = m[1]
		}
	}
	for _, name := range guestTests(t, r.Package) {
		t.Run(name, func(t *testing.T) {
			switch verdict := verdicts[name]; verdict {
			case "PASS":
			case "":
				t.Error("it did not come to its end")
			case "SKIP":
				t.Error("it was skipped in the machine that was made for it")
			default:
				t.Error("it failed")
			}
		})
	}
	if exit := done.Field("exit"); exit != "0" {
		t.Errorf("the tests ended with status %s", exit)
	}
	if t.Failed() {
		t.Logf("output of %s:\n%s", r.Package, strings.Join(output, "\n"))
	}
}

// guestTests lists the tests that a package has under the build tag guest, in the order of files and lines.
func guestTests(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vm.Root(t), pkg, "*_guest_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// guestPackages lists the packages of the module that have files *_guest_test.go, as "./hw/dm".
func guestPackages(t *testing.T) []string {
	t.Helper()
	root := vm.Root(t)
	var packages []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (d.Name() == "out" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_guest_test.go") {
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			packages = append(packages, "./"+dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(packages)
	return slices.Compact(packages)
}
