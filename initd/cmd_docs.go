package main

import (
	"time"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/initd/manpage"
)

func docsCommand() *cobra.Command {
	date := builtAt()
	if date.IsZero() {
		date = time.Unix(0, 0)
	}
	return manpage.Command(date, version, cli.NoArgs, cli.Exactly(1))
}
