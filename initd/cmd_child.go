package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"initd/boot/step"
	"initd/hw/kmod"
	"initd/initd/cli"
	"initd/shutdown"
)

// childCommand tells who calls it wrongly; right calls do not come this far
// (see run). People never call it.
func childCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "child NAME",
		Short:  "Run one function for the orchestrator",
		Hidden: true,
		Args:   cli.Exactly(1),
		RunE: func(*cobra.Command, []string) error {
			return cli.Usage(errors.New("initd child: started by the orchestrator only"))
		},
	}
}

// childFuncs are the kinds' functions, the way down's and the program's own.
func childFuncs() map[string]step.ChildFunc {
	m := step.ChildFuncs()
	m["teardown"] = step.Takes(func(ctx context.Context, _ *step.ChildInput, j shutdown.Job) (any, error) {
		return nil, shutdown.Do(ctx, j)
	})
	m["bundle"] = step.Takes(bundleChild)
	m["password"] = step.Takes(passwordChild)
	m["keep-program"] = step.Takes(keepProgramChild)
	return m
}

// modprobe is initd by that name: the kernel's own requests for modules.
func modprobe(args []string, stdout, stderr io.Writer) int {
	return kmod.Modprobe(args, stdout, stderr)
}
