package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKernelArguments(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       kernelArgs
	}{
		{"nothing for initd", "console=ttyS0 root=/dev/vda initd\n", kernelArgs{}},
		{"everything, and skip twice", "initd.state=label/x initd.skip=a,b initd.events=/dev/ttyS1 initd.skip=c", kernelArgs{
			state: "label/x", skip: []string{"a", "b", "c"}, events: "/dev/ttyS1"}},
		{"what nobody knows is told", "initd.skpi=a initd.mode=x", kernelArgs{ignored: []string{
			`"initd.skpi" is no kernel argument of initd; did you mean "initd.skip"?`, `"initd.mode" is no kernel argument of initd`}}},
		{"every one in README is known", readmeArguments(t), kernelArgs{state: "RESOURCE", skip: []string{"UNIT", "UNIT"}, events: "DEVICE"}},
		{"init's own are init's", "initd.exe=/x initd.debug initd.failure-time=1s initd.watchdog=off", kernelArgs{}},
		{"a locked image ignores them, wherever it says so", "initd.skip=a initd.state=label/x initd.locked initd.events=/dev/ttyS1", kernelArgs{
			ignored: []string{"initd.skip= ignored: the image is locked", "initd.state= ignored: the image is locked", "initd.events= ignored: the image is locked"}}},
		{"commas and nothing between them", "initd.skip= initd.skip=,a,,b", kernelArgs{skip: []string{"a", "b"}}},
		{"locked with a value is locked", "initd.locked=0 initd.skip=a", kernelArgs{ignored: []string{"initd.skip= ignored: the image is locked"}}},
	} {
		if diff := cmp.Diff(row.want, parseKernelArgs(row.line), cmp.AllowUnexported(kernelArgs{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

// readmeArguments are initd's of the table in README, as one command line.
func readmeArguments(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var line []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(initd\\.[^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if m[1] != "initd.locked" {
			line = append(line, m[1])
		}
	}
	if len(line)+1 != len(argumentNames()) {
		t.Errorf("README has %d arguments, and initd knows %d", len(line)+1, len(argumentNames()))
	}
	return strings.Join(line, " ")
}
