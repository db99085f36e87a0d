// Command initd-image builds images of an appliance: what a machine boots from.
//
// This package wires: one file a command. What an image holds is decided in images/initramfs.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"initd/initd/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// version is set by the build.
var version = "unknown"

// run is main without the process around it. Status 0 is success, 1 a failure, 2 a wrong call or a bad file.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := cli.Root(&cobra.Command{Use: "initd-image", Short: "Build images of an appliance", Version: version}, initramfsCommand())
	err := cli.Execute(ctx, root, args, nil, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "initd-image: %v\n", err)
	if cli.IsUsage(err) {
		return 2
	}
	return 1
}
