// Package role lets the program of a test play other programs: processes that give up rights, crash or are killed.
//
// It owns how a role is passed on (an environment variable). It is for tests only.
package role

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// variable has the role's name.
const variable = "TEST_ROLE"

// Main is a TestMain: it runs the tests, or, in a process of Command, the role.
func Main(m *testing.M, play func(name string) error) {
	name := os.Getenv(variable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := play(name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Command is a process that plays a role. Its exit status is 1 after an error, which it prints to its standard error.
func Command(ctx context.Context, name string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+name)
	return cmd
}
