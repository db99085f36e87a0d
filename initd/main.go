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
	"initd/initd/cli"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// exitCode is an error that has been shown already and only carries the
// status to end with.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

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
	err := cli.Execute(ctx, rootCommand(args[1:]...), args[1:], stdin, stdout, stderr)
	if err == nil {
		return 0
	}
	if code := exitCode(0); errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintf(stderr, "initd: %v\n", err)
	if cli.IsUsage(err) {
		return 2
	}
	return 1
}

// rootCommand is the tree of commands; of what is called a lot, by name, only that branch.
func rootCommand(args ...string) *cobra.Command {
	root := &cobra.Command{Use: "initd", Short: "Plan, boot and take down an appliance", Version: version}
	if len(args) > 0 {
		switch args[0] {
		case "nvme":
			return cli.Root(root, nvmeCommand())
		case "iscsi":
			return cli.Root(root, iscsiCommand())
		}
	}
	return cli.Root(root,
		checkCommand(), planCommand(), schemaCommand(), fmtCommand(),
		bootCommand(), statusCommand(), whyCommand(), analyzeCommand(), retryCommand(), skipCommand(), bundleCommand(), shutdownCommand(),
		keysCommand(), luksCommand(), nvmeCommand(), iscsiCommand(),
		childCommand(), docsCommand(), versionCommand(),
	)
}
