package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"initd/initd/manpage"
)

// docsCommand writes what packages install beside the program. It is for the
// build, and the same bytes come out on every machine.
func docsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "docs",
		Short:  "Write man pages and completions, for packages",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	part := func(use, short string, write func(root *cobra.Command, dir string) error) *cobra.Command {
		return &cobra.Command{Use: use + " DIR", Short: short, Args: exactly(1), RunE: func(c *cobra.Command, args []string) error {
			return write(c.Root(), args[0])
		}}
	}
	c.AddCommand(
		part("man", "Write a man page a command", writeMan),
		part("completions", "Write completions for bash, zsh and fish", writeCompletions),
	)
	return c
}

func writeMan(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	date := builtAt()
	if date.IsZero() {
		date = time.Unix(0, 0)
	}
	if err := manpage.Tree(root, dir, date.UTC(), version); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	return nil
}

func writeCompletions(root *cobra.Command, dir string) error {
	for _, shell := range []struct {
		file  string // where each shell looks for it, below its own folder
		write func(file string) error
	}{
		{"bash/initd", func(f string) error { return root.GenBashCompletionFileV2(f, true) }},
		{"zsh/_initd", root.GenZshCompletionFile},
		{"fish/initd.fish", func(f string) error { return root.GenFishCompletionFile(f, true) }},
	} {
		file := filepath.Join(dir, shell.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("write completions: %w", err)
		}
		if err := shell.write(file); err != nil {
			return fmt.Errorf("write completions: %w", err)
		}
	}
	return nil
}
