package main

import (
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
		{"init's own are init's", "initd.exe=/x initd.debug initd.failure-time=1s initd.watchdog=off", kernelArgs{}},
		{"a locked image ignores them, wherever it says so", "initd.skip=a initd.state=label/x initd.locked initd.events=/dev/ttyS1", kernelArgs{
			ignored: []string{"initd.skip= ignored: the image is locked", "initd.state= ignored: the image is locked", "initd.events= ignored: the image is locked"}}},
		{"locked with a value is locked", "initd.locked=0 initd.skip=a", kernelArgs{ignored: []string{"initd.skip= ignored: the image is locked"}}},
	} {
		if diff := cmp.Diff(row.want, parseKernelArgs(row.line), cmp.AllowUnexported(kernelArgs{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}
