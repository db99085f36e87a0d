package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/step"
	"initd/initd/cli"
)

func checkCommand() *cobra.Command {
	var asJSON bool
	var facts string
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say everything that is wrong with an appliance file",
		Long: `Loads FILE with the layers beside it (appliance.yaml has appliance.d/*.yaml)
and compiles it to a plan. Exit status 0: it is good; 1: it is not, or cannot be read.`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			_, p, err := compileFile(args[0], facts)
			return reportCheck(c.OutOrStdout(), args[0], p, err, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the problems for an editor to read")
	c.Flags().StringVar(&facts, "facts", "", "FILE with the machine's facts as JSON, or host")
	return c
}

// compileFile loads and compiles; facts is "", "host" or a file. A file that
// does not load is compiled as far as it was read, so that the error says
// everything at once.
func compileFile(file, facts string) (*appliance.Appliance, *plan.Plan, error) {
	a, err := appliance.Load(file)
	if a == nil {
		return nil, nil, err
	}
	f, ferr := readFacts(facts)
	if ferr != nil {
		return nil, nil, cli.Usage(ferr)
	}
	p, perr := plan.Compile(a, f, step.Kinds())
	if err := appliance.Join(err, perr); err != nil {
		return nil, nil, err
	}
	return a, p, nil
}

func reportCheck(w io.Writer, file string, p *plan.Plan, err error, asJSON bool) error {
	var list *appliance.Problems
	if err != nil && !errors.As(err, &list) {
		list = &appliance.Problems{}
		list.List = []appliance.Problem{{File: file, Message: err.Error()}}
	}
	if asJSON {
		out := struct {
			OK       bool                `json:"ok"`
			Problems []appliance.Problem `json:"problems"`
			More     int                 `json:"more,omitempty"` // that are not listed
		}{OK: list == nil, Problems: []appliance.Problem{}}
		if list != nil {
			out.Problems, out.More = list.List, list.More
		}
		if err := writeJSON(w, out); err != nil {
			return err
		}
	} else if list == nil {
		_, err := fmt.Fprintf(w, "%s: good; %d units\n", file, len(p.Units))
		return err
	} else {
		for _, pr := range list.List {
			fmt.Fprintln(w, pr)
		}
		if list.More > 0 {
			fmt.Fprintf(w, "and %d more\n", list.More)
		}
		fmt.Fprintf(w, "%d %s\n", len(list.List)+list.More, plural(len(list.List)+list.More, "problem"))
	}
	if list != nil {
		return exitCode(1)
	}
	return nil
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
