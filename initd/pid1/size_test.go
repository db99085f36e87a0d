package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"initd/initd/pid1/pid1test"
)

// What init may be made of. fmt, net and encoding/json cost what the limit
// has; everything else has to argue for its place here.
var imports = []string{
	"bytes", "cmp", "context", "encoding/binary", "errors", "io", "io/fs", "iter", "math", "math/bits", "os", "os/signal", "path",
	"reflect", "runtime", "slices", "sort", "strconv", "strings", "sync", "sync/atomic", "syscall", "time", "unicode", "unicode/utf8", "unsafe",
	"golang.org/x/sys/unix", "initd/initd/pid1/rcu", "initd/initd/pid1/wire",
}

// maxSize of the stripped binary: it is in memory for as long as the machine
// is up.
const maxSize = 2 << 20

func TestInitIsSmallStaticAndMadeOfLittle(t *testing.T) {
	file := pid1test.Init(t)
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() >= maxSize {
		t.Errorf("init has %d bytes, want less than %d", st.Size(), maxSize)
	}
	t.Logf("%d bytes, %d to spare", st.Size(), maxSize-st.Size())
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if p != "initd/initd/pid1" && !slices.Contains(imports, p) && !strings.HasPrefix(p, "internal/") {
			t.Errorf("init imports %s", p)
		}
	}
	elf, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(elf[:4096]), "/lib64/ld-linux") {
		t.Error("init is not static")
	}
}

func TestNotAsPID1ItSaysWhatItIs(t *testing.T) {
	cmd := exec.Command(pid1test.Init(t))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "runs as PID 1 only") {
		t.Errorf("got %q, %v", out, err)
	}
}
