package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	m["teardown"] = func(ctx context.Context, in *step.ChildInput) (any, error) {
		var j shutdown.Job
		if err := json.Unmarshal(in.Params, &j); err != nil {
			return nil, fmt.Errorf("read parameters: %w", err)
		}
		return nil, shutdown.Do(ctx, j)
	}
	m["bundle"] = bundleChild
	m["password"] = passwordChild
	m["keep-program"] = keepProgramChild
	return m
}

// modprobe is initd by that name: the kernel's own requests for modules.
func modprobe(args []string, stdout, stderr io.Writer) int {
	return kmod.Modprobe(args, stdout, stderr)
}
