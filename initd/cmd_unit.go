package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"initd/initd/api"
	"initd/initd/cli"
)

func retryCommand() *cobra.Command {
	return unitCommand(api.OpRetry, "retry UNIT", "Start a unit's attempts anew, now",
		`Ends the unit's wait for its next attempt, and a skip; an attempt that is running is
called off and begins anew. What failed with a halt of the boot is tried too.`)
}

func skipCommand() *cobra.Command {
	return unitCommand(api.OpSkip, "skip UNIT", "Give a unit up: what comes after it goes on without it",
		`What requires the unit is degraded, and a halt of the boot because of it ends.
initd retry takes it back. The next boot knows nothing of it: initd.skip= on the kernel command line does.`)
}

// unitCommand is an order to the running orchestrator about one unit.
func unitCommand(op, use, short, long string) *cobra.Command {
	run := "/run/initd"
	asJSON := false
	c := &cobra.Command{
		Use: use, Short: short,
		Long: long + `
Exit status 0: the order was taken (initd status tells what became of it); 1: it was not;
2: there is no such unit, or the call is wrong.`,
		Args:              cli.Exactly(1),
		ValidArgsFunction: unitNames,
		RunE: func(c *cobra.Command, args []string) error {
			a, err := ask(c.Context(), run, api.Request{Op: op, Unit: args[0]})
			if err != nil && !asJSON {
				return fmt.Errorf("%s %s: %w", op, args[0], err)
			}
			if err != nil {
				a = api.Answer{Message: err.Error()}
			}
			if asJSON {
				if err := writeJSON(c.OutOrStdout(), unitAnswer{Op: op, Unit: args[0], Answer: a}); err != nil {
					return err
				}
			}
			switch {
			case a.OK && !asJSON:
				fmt.Fprintln(c.OutOrStdout(), a.Message)
			case a.OK:
			case asJSON && a.Code == api.CodeUnknownUnit:
				return exitCode(2)
			case asJSON:
				return exitCode(1)
			case a.Code == api.CodeUnknownUnit:
				return cli.Usage(errors.New(a.Message))
			default:
				return errors.New(a.Message)
			}
			return nil
		},
	}
	c.Flags().StringVar(&run, "run", run, "the orchestrator's folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	return c
}

// unitAnswer is what --json prints.
type unitAnswer struct {
	Op   string `json:"op"`
	Unit string `json:"unit"`
	api.Answer
}

// unitNames completes the units of this boot.
func unitNames(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := (&source{events: defaultEvents}).read()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, u := range r.Units {
		if strings.HasPrefix(u.ID, word) {
			list = append(list, u.ID+"\t"+string(u.State))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
