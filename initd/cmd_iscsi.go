package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"initd/hw/iscsi"
	"initd/hw/sysfs"
	"initd/initd/cli"
)

func iscsiCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "iscsi",
		Short: "Find iSCSI targets, log in to them and out again",
		Long: `Software iSCSI by hand, on any machine and without an appliance file. Sessions that initd made are
told from those of open-iscsi's iscsid by a mark in the kernel; those of others are listed and never touched.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(iscsiDiscoverCommand(), iscsiLoginCommand(), iscsiListCommand(), iscsiLogoutCommand(), iscsiKeepCommand(), iscsiReleaseCommand())
	return c
}

// openISCSI opens the kernel's software iSCSI, after loading it where load is set.
func openISCSI(ctx context.Context, run string, load bool) (*iscsi.Host, error) {
	if load && !iscsiReady() {
		if err := loadFabric(ctx, "iSCSI sessions", iscsi.Modules()...); err != nil {
			return nil, err
		}
	}
	return iscsi.OpenHost(run)
}

// iscsiReady tells whether there is nothing to load.
func iscsiReady() bool {
	sys, err := sysfs.Open("/")
	if err != nil {
		return false
	}
	defer sys.Close()
	return iscsi.Ready(sys)
}

// chapOf reads the secrets of a session that somebody made by hand.
func chapOf(rec iscsi.Record) (*iscsi.CHAP, error) {
	if rec.File == "" {
		return nil, nil
	}
	f, err := os.Open(rec.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return iscsi.ReadCHAP(f)
}
