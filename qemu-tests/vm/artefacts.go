package vm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// artefactsOf gives the folder for what a test leaves to look at.
func artefactsOf(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`:*?"<>|\ `, r) {
			return '_'
		}
		return r
	}, t.Name())
	return filepath.Join(Root(t), "out", "vm", name)
}

// Artefact gives the path of a file in the machine's folder, for what a test itself wants to keep.
func (m *VM) Artefact(name string) string { return filepath.Join(m.dir, name) }

// writeScript writes down how QEMU is called, ready to be called again by hand.
func (m *VM) writeScript(args []string) error {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return os.WriteFile(m.Artefact("qemu.sh"), []byte("qemu-system-x86_64 "+strings.Join(quoted, " ")+"\n"), 0o755)
}

func (m *VM) stderrText() string {
	text, err := os.ReadFile(m.Artefact("qemu.stderr"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// finish ends the machine with its test, checks what no test has to ask for, and prints or tidies the artefacts.
func (m *VM) finish() {
	m.t.Helper()
	if m.run == nil {
		return
	}
	m.run.kill()
	exit := m.run.exitNow()
	if exit.Panic != "" && !m.spec.expectPanic {
		m.t.Errorf("%s: %s", m.name, exit.Panic)
	}
	m.garbage.mu.Lock()
	for _, line := range m.garbage.lines {
		m.t.Errorf("%s: the guest wrote what is no event to the event port: %s", m.name, line)
	}
	m.garbage.mu.Unlock()
	if m.t.Failed() {
		if diedOfEmulation(m.run.console.Lines()) {
			m.t.Logf("%s: the emulator ended it: its kernel met a breakpoint of its own patching", m.name) // run.sh knows these words
		}
		m.t.Logf("%s: ended: %v; all of it is kept in %s; its console closed with:\n%s", m.name, exit, m.dir, m.run.console.tail())
		return
	}
	for _, name := range []string{"qemu.sh", "qemu.stderr"} {
		os.Remove(m.Artefact(name))
	}
}

func appendFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(to, f)
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	// The kernel looks for the next archive at a multiple of four (init/initramfs.c).
	if pad := (4 - n%4) % 4; pad != 0 {
		_, err = to.Write(make([]byte, pad))
	}
	return err
}
