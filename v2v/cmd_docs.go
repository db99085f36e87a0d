package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/initd/manpage"
)

func docsCommand() *cobra.Command {
	at, err := strconv.ParseInt(built, 10, 64)
	if err != nil {
		at = 0
	}
	return manpage.Command(time.Unix(at, 0), version, cli.NoArgs, cli.Exactly(1))
}
