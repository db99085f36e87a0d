// Command v2v converts virtual disks, compares and checks them, and says what is in them.
//
// This package wires: one file a command. What a command does lives in the packages below v2v/.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/deploy"
	"initd/v2v/image"
	"initd/v2v/job/task"
	"initd/v2v/sandbox"
)

func main() {
	sandbox.Main(roles())
	task.Main(kinds())
	// SIGPIPE would end the program before it has removed what is unfinished; writing then fails instead.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// version and built are set by the build.
var (
	version = "unknown"
	built   = "0"
)

// exitCode is an error that carries the status to end with. An empty one has been shown already.
type exitCode struct {
	code int
	err  error
}

func (e exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}
func (e exitCode) Unwrap() error { return e.err }

// Exit statuses that are the same for all commands; compare and check have further ones, which are qemu-img's.
const (
	exitFailed = 1
	exitUsage  = 2
	exitSignal = 128 // plus the signal's number
)

// stopped is a signal that ended the work.
type stopped struct{ os.Signal }

func (s stopped) Error() string { return "stopped by " + s.String() }

// run is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := onSignal(ctx)
	defer cancel()
	name := filepath.Base(args[0])
	switch name {
	case nameDiskManager:
		return status(ctx, name, diskManager(ctx, args[1:], stderr), stderr)
	case nameMechadora:
		return status(ctx, name, mechadora(ctx, args[1:], stdout, stderr), stderr)
	}
	return status(ctx, "v2v", cli.Execute(ctx, rootCommand(), args[1:], stdin, stdout, stderr), stderr)
}

func status(ctx context.Context, name string, err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	code, shown := exitFailed, false
	var e exitCode
	stop, stopping := errors.AsType[stopped](context.Cause(ctx))
	switch {
	case stopping:
		code = exitSignal + int(stop.Signal.(syscall.Signal))
		if errors.Is(err, context.Canceled) { // of a library that does not know why
			err = stop
		}
	case errors.As(err, &e):
		code, shown = e.code, e.err == nil
	case cli.IsUsage(err):
		code = exitUsage
	}
	if !shown {
		text := err.Error()
		if c := codeOf(err); c != "" {
			text += " [" + c + "]"
		}
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = sandbox.Clean(lines[i]) // an image may have given the names in it
		}
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.Join(lines, "\n"))
	}
	return code
}

// codeOf is the stable code of a refusal, by which docs/v2v lists it; "" of other errors.
func codeOf(err error) string {
	if e, ok := errors.AsType[*image.Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		return string(e.Kind)
	}
	return ""
}

// onSignal cancels the context with the signal as its cause, so that what is unfinished is removed. A second signal ends the program.
func onSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup, and the shell for what it starts in the background, say that it is to live on
			signal.Notify(ch, s)
		}
	}
	go func() {
		if s, ok := <-ch; ok {
			signal.Stop(ch)
			cancel(stopped{s})
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(ch)
		cancel(nil)
	}
}

func rootCommand() *cobra.Command {
	root := cli.Root(&cobra.Command{
		Use:     "v2v",
		Version: version,
		Short:   "Convert virtual disks, and look at them",
		Long: `v2v converts virtual disks between the formats of QEMU, VMware, Hyper-V and VirtualBox.

A format is said, or found out and then certain: a file that matches no format, or more than one, is refused until
-f says what it is. Images that lead to other files or contradict themselves are refused, with what to do.

Exit status 0 is success, 1 a failure, 2 a wrong call, 128+N the signal N. compare and check end as qemu-img's do.`,
	},
		infoCommand(), convertCommand(), compareCommand(), checkCommand(), mapCommand(), formatsCommand(),
		deployCommand(), jobsCommand(), workerCommand(), docsCommand(), versionCommand())
	root.SetVersionTemplate("v2v {{.Version}}\n")
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cli.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintf(c.OutOrStdout(), "v2v %s\n", version)
		return err
	}}
}
