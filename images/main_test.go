package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"initd-image": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	cache, err := filepath.Abs("../out/cache")
	if err != nil {
		t.Fatal(err)
	}
	version, err := os.ReadFile(filepath.Join(cache, "kernel", "version"))
	if err != nil {
		t.Fatalf("%v; run make kernel", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("KERNEL", filepath.Join(cache, "kernel/lib/modules", strings.TrimSpace(string(version))))
			e.Setenv("DEBS", filepath.Join(cache, "debs"))
			return nil
		},
	})
}
