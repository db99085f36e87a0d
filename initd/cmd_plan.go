package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/step"
	"initd/hw/firmware"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func planCommand() *cobra.Command {
	var asJSON, asDOT, asSVG, diff bool
	var facts string
	c := &cobra.Command{
		Use:   "plan FILE | plan --diff OLD NEW",
		Short: "Show what an appliance file becomes",
		Long: `Compiles FILE and prints its units by stage, with what each one needs.
With --diff, prints what NEW changes over OLD (two files); exit status 1 where they differ.
Exit status 2: a file is bad; initd check says why.`,
		Args: func(c *cobra.Command, args []string) error {
			if want := map[bool]int{false: 1, true: 2}[diff]; len(args) != want {
				return cli.Misused(c)
			}
			if c.ValidateFlagGroups() != nil {
				return cli.Usage(errors.New("--json, --dot and --svg are three ways to print a plan: choose one"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var plans []*plan.Plan
			for _, file := range args {
				_, p, err := compileFile(file, facts)
				if err != nil {
					return badFile(c, err)
				}
				plans = append(plans, p)
			}
			w := c.OutOrStdout()
			switch p := plans[0]; {
			case diff:
				changes := plan.Diff(p, plans[1])
				if asJSON {
					if err := writeJSON(w, struct {
						Changes []plan.Change `json:"changes"`
					}{append([]plan.Change{}, changes...)}); err != nil {
						return err
					}
				} else if err := plan.WriteDiff(w, changes); err != nil {
					return err
				}
				if len(changes) > 0 {
					return exitCode(1)
				}
				return nil
			case asJSON:
				return writeJSON(w, p)
			case asDOT:
				return p.DOT(w)
			case asSVG:
				return p.SVG(w)
			default:
				return p.Text(w)
			}
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print the plan as JSON ("+plan.Schema+")")
	f.BoolVar(&asDOT, "dot", false, "print the graph for Graphviz")
	f.BoolVar(&asSVG, "svg", false, "print the graph as a picture")
	f.BoolVar(&diff, "diff", false, "compare two files")
	f.StringVar(&facts, "facts", "", "FILE with the machine's facts as JSON, or host")
	c.MarkFlagsMutuallyExclusive("json", "dot", "svg")
	return c
}

// badFile prints what is wrong with a file and ends with status 2.
func badFile(c *cobra.Command, err error) error {
	var list *appliance.Problems
	if !errors.As(err, &list) {
		return cli.Usage(err)
	}
	fmt.Fprintln(c.ErrOrStderr(), list)
	return exitCode(2)
}

// maxFacts bounds a file of facts, in bytes.
const maxFacts = 1 << 20

// readFacts reads the machine's facts from where the user says.
func readFacts(from string) (plan.Facts, error) {
	var f plan.Facts
	switch from {
	case "":
		return f, nil
	case "host":
		return hostFacts(), nil
	}
	file, err := os.Open(from)
	if err != nil {
		return f, fmt.Errorf("read facts: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFacts+1))
	if err != nil {
		return f, fmt.Errorf("read facts: %w", err)
	}
	if len(b) > maxFacts {
		return f, fmt.Errorf("read facts from %s: it is larger than %d bytes", from, maxFacts)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a misspelt fact would be one that is not known
	err = d.Decode(&f)
	if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("there is more behind the first value")
	}
	if err != nil {
		return f, fmt.Errorf("read facts from %s: %w; want {\"serial\": …, \"uuid\": …, \"vendor\": …, \"product\": …}", from, err)
	}
	return f, nil
}

// firmwareFacts reads the boot firmware's tables; one that cannot be read is
// named in the plan.
func firmwareFacts() []appliance.Firmware {
	sys, err := sysfs.Open("/")
	if err != nil {
		return []appliance.Firmware{{From: "firmware", Problems: []string{err.Error()}}}
	}
	defer sys.Close()
	tables, err := firmware.Read(sys)
	list := step.FromFirmware(tables)
	if err != nil {
		list = append(list, appliance.Firmware{From: "firmware", Problems: strings.Split(err.Error(), "\n")})
	}
	return list
}

// hostFacts reads the firmware's words about this machine; what it does not
// say stays empty. Source: SMBIOS by drivers/firmware/dmi-id.c.
func hostFacts() plan.Facts {
	read := func(name string) string {
		b, err := os.ReadFile("/sys/class/dmi/id/" + name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	return plan.Facts{Firmware: firmwareFacts(), Serial: read("product_serial"), UUID: read("product_uuid"), Vendor: read("sys_vendor"), Product: read("product_name")}
}
