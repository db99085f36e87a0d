// Command initd plans, boots and takes down an appliance.
//
// This package wires: one file a command, no logic of its own. What a command
// does lives in boot, shutdown, hw and the packages below initd/.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"initd/initd/child"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// exitCode is an error that has been shown already and only carries the
// status to end with.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a fault of the call itself: status 2.
type usageError struct{ error }

// run is main without the process around it. Status 0 is success, 1 a
// negative or failed result, 2 a wrong call or a bad file.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if name := filepath.Base(args[0]); name == "modprobe" {
		return modprobe(args[1:], stdout, stderr)
	}
	// Children start often, while machines wait for them: they do without the tree of commands.
	if len(args) == 3 && args[1] == "child" {
		return child.Main(args[2], childFuncs(), stderr)
	}
	root := rootCommand()
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if code := exitCode(0); errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintf(stderr, "initd: %v\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		return 2
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "initd",
		Short:         "Plan, boot and take down an appliance",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		checkCommand(), planCommand(), schemaCommand(), fmtCommand(),
		bootCommand(), statusCommand(), whyCommand(), analyzeCommand(), retryCommand(), skipCommand(), bundleCommand(), shutdownCommand(),
		keysCommand(), luksCommand(), nvmeCommand(), iscsiCommand(),
		childCommand(), docsCommand(), versionCommand(),
	)
	return root
}

// noArgs refuses arguments, suggesting a command where one is near.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", s[0])
	}
	if hint == "" {
		hint = "; see " + c.CommandPath() + " --help"
	}
	return usageError{fmt.Errorf("%q is no command of %s%s", args[0], c.CommandPath(), hint)}
}

// exactly wants n arguments that the usage line names.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s", c.UseLine())}
		}
		return nil
	}
}
