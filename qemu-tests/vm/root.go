package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Root gives the module's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory: tests that boot machines run inside the module")
		}
		dir = filepath.Dir(dir)
	}
}

// KernelFile gives a file of the kernel that bootstrap fetched: vmlinuz, config, version, or below lib/modules.
func KernelFile(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "out", "cache", "kernel", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the kernel of the test machines is not complete (%v): run make bootstrap", err)
	}
	return path
}

// kernelVersion is the name of the folder below lib/modules.
func kernelVersion(t testing.TB) string {
	t.Helper()
	version, err := os.ReadFile(KernelFile(t, "version"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(version))
}

// Build compiles a main package of this module for a guest (static, stripped) and gives the path of the program.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := goBuild(Root(t), out, "build", pkg); err != nil {
		t.Fatal(err)
	}
	return out
}

// Program is what Build compiles, for a file of a guest.
func Program(t testing.TB, pkg string) []byte {
	t.Helper()
	b, err := os.ReadFile(Build(t, pkg))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BuildTests compiles the tests of packages, those with the build tag guest too, to programs, and gives their paths in
// the same order. Two at a time: linking, which the go command does not cache, keeps one core busy.
func BuildTests(t testing.TB, packages ...string) []string {
	t.Helper()
	root, dir := Root(t), t.TempDir()
	outs, errs := make([]string, len(packages)), make([]error, len(packages))
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for i, pkg := range packages {
		outs[i] = filepath.Join(dir, fmt.Sprintf("%d-%s.test", i, filepath.Base(pkg)))
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = goBuild(root, outs[i], "test", "-c", "-tags", "guest", pkg)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return outs
}

func goBuild(root, out, verb string, args ...string) error {
	args = append([]string{verb, "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}, args...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	if _, err := os.Stat(out); err != nil {
		return fmt.Errorf("go %s: it made no program: %w", strings.Join(args, " "), err)
	}
	return nil
}

// Shipped brings out/bin up to date with `make build` and gives the path of one of its programs: init, initd, initd-image.
// Scenarios run these very files, not builds of their own.
func Shipped(t testing.TB, program string) string {
	t.Helper()
	cmd := exec.Command("make", "--silent", "build")
	cmd.Dir = Root(t)
	// A make above us speaks to its children through these; this one is nobody's child.
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "MFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, text)
	}
	path := filepath.Join(cmd.Dir, "out", "bin", program)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("make build left no %s", program)
	}
	return path
}
