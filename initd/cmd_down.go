package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"initd/initd/api"
	"initd/initd/cli"
)

// askTime bounds one command to the orchestrator.
const askTime = 30 * time.Second

// ask sends one command; run is the orchestrator's folder.
func ask(ctx context.Context, run string, r api.Request) (api.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return api.Ask(ctx, filepath.Join(run, "api.sock"), r, nil)
}

func shutdownCommand() *cobra.Command {
	run := "/run/initd"
	c := &cobra.Command{
		Use:   "shutdown [poweroff|reboot|halt]",
		Short: "Take the machine down: services, mounts, volumes, in that order",
		Long: `Asks the running orchestrator to take the machine down and to power it off
(the default), reboot or halt it. It returns as soon as that has begun.`,
		ValidArgs: []string{"poweroff", "reboot", "halt"},
		RunE: func(c *cobra.Command, args []string) error {
			kind := "poweroff"
			if len(args) > 0 {
				kind = args[0]
			}
			if len(args) > 1 || !slices.Contains(c.ValidArgs, cobra.Completion(kind)) {
				return cli.Usage(fmt.Errorf("usage: %s", c.UseLine()))
			}
			a, err := ask(c.Context(), run, api.Request{Op: api.OpShutdown, Name: kind})
			if errors.Is(err, api.ErrNotRunning) {
				return fmt.Errorf("%w: on a machine with another init, use its own command", err)
			}
			return tellAnswer(c.OutOrStdout(), a, err)
		},
	}
	c.Flags().StringVar(&run, "run", run, "the orchestrator's folder")
	return c
}

// tellAnswer prints what the orchestrator says, or gives why it does not do what it was asked for.
func tellAnswer(out io.Writer, a api.Answer, err error) error {
	switch {
	case err != nil:
		return err
	case !a.OK:
		return errors.New(a.Message)
	}
	_, err = fmt.Fprintln(out, a.Message)
	return err
}
