package main

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"initd/v2v/job/task"
	"initd/v2v/sandbox"
)

func TestMain(m *testing.M) {
	// As root the program under test reads images in a child, which is this binary too.
	sandbox.Main(roles())
	task.Main(kinds())
	program := func() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){
		"v2v": program, nameDiskManager: program, nameMechadora: program,
	})
}

// TestScripts runs a script a command: testdata/script/COMMAND.txtar. They use qemu-img as the other opinion.
func TestScripts(t *testing.T) {
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the Debian package qemu-utils", program)
		}
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": wantStatus}})
}

// wantStatus runs a program and checks its exit status: status 3 v2v compare a b. Its output is there for stdout and stderr.
func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	err := ts.Exec("sh", append([]string{"-c", `n=$1; shift; "$@"; s=$?; [ $s = $n ] || { echo "exit status $s, want $n" >&2; exit 1; }`, "sh"}, args...)...)
	if err != nil {
		ts.Fatalf("%v", err)
	}
}
