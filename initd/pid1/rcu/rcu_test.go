package rcu

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhoSaysSomethingOnTheCommandLineHasItAsHeSays(t *testing.T) {
	for _, row := range []struct {
		name, line string
		on         bool
		was, want  string
	}{
		{"it begins", "console=ttyS0 quiet\n", true, "0\n", "1\n"},
		{"it ends", "console=ttyS0 quiet\n", false, "1\n", "0\n"},
		{"it stays on by the command line", "quiet rcupdate.rcu_expedited=1\n", false, "1\n", "1\n"},
		{"it stays off by the command line", "rcupdate.rcu_expedited=0\n", true, "0\n", "0\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range map[string]string{"proc/cmdline": row.line, "sys/kernel/rcu_expedited": row.was} {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			Expedite(root, row.on)
			if got, err := os.ReadFile(filepath.Join(root, "sys/kernel/rcu_expedited")); err != nil || string(got) != row.want {
				t.Errorf("got %q, %v; want %q", got, err, row.want)
			}
		})
	}
	root := t.TempDir()
	Expedite(root, true) // a kernel without it
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("it made %v, %v", left, err)
	}
}
