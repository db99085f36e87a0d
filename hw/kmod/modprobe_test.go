//go:build !guest

package kmod

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsAreReadAsGetoptDoes(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want options
		err  string
	}{
		{name: "what the kernel calls", args: []string{"-q", "--", "net-pf-38"}, want: options{root: "/", quiet: true, names: []string{"net-pf-38"}}},
		{name: "bundled flags with a value", args: []string{"-nvqd/x", "a"}, want: options{root: "/x", dry: true, verbose: true, quiet: true, names: []string{"a"}}},
		{name: "options behind the module", args: []string{"a", "-S", "6.1", "--dirname=/x"}, want: options{root: "/x", release: "6.1", names: []string{"a"}}},
		{name: "parameters follow the module", args: []string{"loop", "max_loop=8", "x=a b"},
			want: options{root: "/", names: []string{"loop"}, parameters: `max_loop=8 x="a b"`}},
		{name: "with -a all are modules", args: []string{"-a", "b", "c"}, want: options{root: "/", names: []string{"b", "c"}}},
		{name: "with -r too", args: []string{"-r", "b", "c"}, want: options{root: "/", remove: true, names: []string{"b", "c"}}},
		{name: "after -- nothing is an option", args: []string{"--", "-q"}, want: options{root: "/", names: []string{"-q"}}},
		{name: "an unknown flag", args: []string{"-qX"}, err: "-X is not known"},
		{name: "an unknown long option", args: []string{"--dry"}, err: "--dry is not known"},
		{name: "a short name with two dashes", args: []string{"--q"}, err: "--q is not known"},
		{name: "a value is missing", args: []string{"-d"}, err: "-d wants a value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseOptions(test.args)
			if err != nil || test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || test.err == "" {
					t.Fatalf("got %v, want %q", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(options{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// modprobeOf runs the program on a copy of the excerpt.
func modprobeOf(t *testing.T, args ...string) (status int, stdout, stderr, root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "lib/modules/6.12-cloud"), os.DirFS("testdata/tree")); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status = Modprobe(append([]string{"-d", root, "-S", "6.12-cloud"}, args...), &out, &errs)
	return status, strings.ReplaceAll(out.String(), root, ""), errs.String(), root
}

func TestModprobeShowsWhatItWouldLoad(t *testing.T) {
	status, stdout, stderr, _ := modprobeOf(t, "-D", "dm-crypt")
	want := "insmod /lib/modules/6.12-cloud/kernel/drivers/md/dm-mod.ko.xz\ninsmod /lib/modules/6.12-cloud/kernel/drivers/md/dm-crypt.ko.xz\n"
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("%d %q %q", status, stdout, stderr)
	}
	if status, stdout, _, _ := modprobeOf(t, "-D", "fs-ext4"); status != 0 || stdout != "builtin ext4\n" {
		t.Errorf("built in: %d %q", status, stdout)
	}
	if status, stdout, _, _ := modprobeOf(t, "-R", "fs-xfs"); status != 0 || stdout != "xfs\n" {
		t.Errorf("alias: %d %q", status, stdout)
	}
}

func TestModprobeIsQuietAboutUnknownNamesWhenTheKernelAsks(t *testing.T) {
	status, stdout, stderr, _ := modprobeOf(t, "-q", "--", "net-pf-38")
	if status != 1 || stdout+stderr != "" {
		t.Errorf("%d %q %q", status, stdout, stderr)
	}
	status, _, stderr, _ = modprobeOf(t, "net-pf-38")
	if status != 1 || !strings.Contains(stderr, "modprobe: kernel module net-pf-38: lib/modules/6.12-cloud has no module") {
		t.Errorf("%d %q", status, stderr)
	}
}

func TestModprobeWithoutAModuleOrWithHelp(t *testing.T) {
	if status, _, stderr, _ := modprobeOf(t); status != 1 || !strings.Contains(stderr, "name a module") {
		t.Errorf("%d %q", status, stderr)
	}
	if status, stdout, _, _ := modprobeOf(t, "--help"); status != 0 || !strings.HasPrefix(stdout, "Usage: modprobe") {
		t.Errorf("%d %q", status, stdout)
	}
}

func TestADryRunLoadsNothingAndPrintsWithV(t *testing.T) {
	status, stdout, stderr, _ := modprobeOf(t, "-nv", "-a", "vfio_iommu_type1", "btrfs")
	if status != 0 || stderr != "" {
		t.Errorf("%d %q", status, stderr)
	}
	var got []string
	for line := range strings.Lines(stdout) {
		got = append(got, nameOf(strings.TrimSpace(line)))
	}
	// What this machine's own kernel has already is left out, so only what comes last is sure.
	if len(got) > 0 && got[len(got)-1] != "btrfs" {
		t.Errorf("got %v", got)
	}
}
