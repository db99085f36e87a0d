package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// Command is the hidden command docs of a program: it writes what packages install beside it. It is for the build, and the same bytes
// come out on every machine. The pages say the date and the version; none and one are
// the program's checks of how many arguments there are, so that it ends as it documents.
func Command(date time.Time, version string, none, one cobra.PositionalArgs) *cobra.Command {
	c := &cobra.Command{
		Use:    "docs",
		Short:  "Write man pages and completions, for packages",
		Hidden: true,
		Args:   none,
		RunE:   func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	part := func(use, short string, write func(root *cobra.Command, dir string) error) *cobra.Command {
		return &cobra.Command{Use: use + " DIR", Short: short, Args: one, RunE: func(c *cobra.Command, args []string) error {
			return write(c.Root(), args[0])
		}}
	}
	c.AddCommand(
		part("man", "Write a man page a command", func(root *cobra.Command, dir string) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			if err := Tree(root, dir, date.UTC(), version); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			return nil
		}),
		part("completions", "Write completions for bash, zsh and fish", writeCompletions),
	)
	return c
}

func writeCompletions(root *cobra.Command, dir string) error {
	for _, shell := range []struct {
		file  string // where each shell looks for it, below its own folder
		write func(file string) error
	}{
		{"bash/" + root.Name(), func(f string) error { return root.GenBashCompletionFileV2(f, true) }},
		{"zsh/_" + root.Name(), root.GenZshCompletionFile},
		{"fish/" + root.Name() + ".fish", func(f string) error { return root.GenFishCompletionFile(f, true) }},
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
