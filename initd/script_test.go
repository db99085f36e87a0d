package main

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite what scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"initd": func() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs a script a command: testdata/script/COMMAND.txtar.
// DOCS is the folder of the documented appliance file, EVENTS a recorded boot.
func TestScripts(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"orchestrate": orchestrate, "becomes": becomes, "portal": portal},
		Setup: func(e *testscript.Env) error {
			e.Setenv("DOCS", here+"/../docs")
			e.Setenv("EVENTS", here+"/../boot/report/testdata/five.events")
			return nil
		},
	})
}
