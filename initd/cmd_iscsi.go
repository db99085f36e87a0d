package main

import (
	"github.com/spf13/cobra"
)

func iscsiCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "iscsi",
		Short: "Find iSCSI targets, log in to them and out again",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(iscsiDiscoverCommand())
	return c
}
