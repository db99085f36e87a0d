package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/hw/console"
	"initd/hw/luks"
	"initd/hw/secret"
	"initd/initd/api"
	"initd/initd/cli"
)

func keysUnlockCommand() *cobra.Command {
	run := "/run/initd"
	raw, asJSON := false, false
	c := &cobra.Command{
		Use:   "unlock NAME",
		Short: "Give a waiting unit its key, from a prompt or standard input",
		Long: `Hands a key to the unit key/NAME of the running orchestrator, which tries it at once.
At a terminal it asks; otherwise the key is standard input, without one newline at its end (--raw keeps it).
Exit status 0: the key was taken (initd status tells whether it fits); 1: it was not; 2: wrong call.`,
		Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := secret.ProtectProcess(); err != nil && !errors.Is(err, secret.ErrNotLocked) {
				return err
			}
			key, err := readKey(c.Context(), c.InOrStdin(), "Key for "+args[0], raw)
			if err != nil {
				return err
			}
			f, err := secret.Seal("initd-key", key.Bytes())
			key.Destroy()
			if err != nil {
				return err
			}
			defer f.Close()
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			a, err := api.Ask(ctx, filepath.Join(run, "api.sock"), api.Request{Op: api.OpFeedKey, Name: args[0]}, f)
			if !asJSON {
				return tellAnswer(c.OutOrStdout(), a, err)
			}
			if err != nil {
				a = api.Answer{Message: err.Error()}
			}
			if err := writeJSON(c.OutOrStdout(), a); err != nil {
				return err
			}
			if !a.OK {
				return exitCode(1)
			}
			return nil
		},
	}
	c.Flags().StringVar(&run, "run", run, "the orchestrator's folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	c.Flags().BoolVar(&raw, "raw", false, "keep a newline at the end of standard input")
	return c
}

// readKey asks at the terminal, or reads all of in.
func readKey(ctx context.Context, in io.Reader, question string, raw bool) (*secret.Buffer, error) {
	if f, ok := in.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				return nil, fmt.Errorf("ask for the key: %w", err)
			}
			defer tty.Close()
			a, err := console.Prompt(ctx, []*os.File{tty}, question)
			return a.Secret, err
		}
	}
	all, err := secret.Read(in, luks.MaxKey)
	if errors.Is(err, secret.ErrEmpty) {
		return nil, cli.Usage(errors.New("no key on standard input"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	b := all.Bytes()
	if raw || b[len(b)-1] != '\n' {
		return all, nil
	}
	defer all.Destroy()
	if len(b) == 1 {
		return nil, cli.Usage(errors.New("no key on standard input, but an empty line"))
	}
	return secret.From(b[:len(b)-1])
}
