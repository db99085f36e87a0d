// Package cli has what the command lines of all programs share: how they refuse a call, and how a tree of commands behaves.
//
// It owns errors of usage and the checks of arguments. It knows no command, and ends no process: statuses are the programs'.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// usageError is a fault of the call itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks an error as a fault of the call itself, which programs end with a status of its own for.
func Usage(err error) error { return usageError{err} }

// IsUsage tells whether an error, or one that it wraps, is a fault of the call.
func IsUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// Root completes the root of a tree: alone it prints its help, what is no command is refused, and nothing is printed of errors, which are
// the program's to tell.
func Root(root *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Args = NoArgs
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(commands...)
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args = helpArgs
		}
	}
	return root
}

// helpArgs refuses words that lead to no command.
func helpArgs(c *cobra.Command, args []string) error {
	found, rest, err := c.Root().Find(args)
	if err != nil {
		return Usage(err)
	}
	return NoArgs(found, rest)
}

// Execute runs the command that the arguments, without the program's name, say.
func Execute(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// NoArgs refuses arguments, suggesting a command where one is near.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "; see " + c.CommandPath() + " --help"
	c.SuggestionsMinimumDistance = 2
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", s[0])
	}
	return Usage(fmt.Errorf("%q is no command of %s%s", args[0], c.CommandPath(), hint))
}

// Misused refuses a call with the usage line of its command.
func Misused(c *cobra.Command) error {
	line := c.Use
	if c.HasParent() {
		line = c.Parent().CommandPath() + " " + line
	}
	return Usage(fmt.Errorf("usage: %s", line))
}

// Exactly wants n arguments that the usage line names.
func Exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return Usage(fmt.Errorf("usage: %s", c.UseLine()))
		}
		return nil
	}
}
