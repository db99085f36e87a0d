package debian

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAptsIndexIsRead(t *testing.T) {
	b, err := os.ReadFile("testdata/show.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseControls(string(b))
	if err != nil {
		t.Fatal(err)
	}
	want := []Control{
		{Name: "redis-server", Version: "5:7.0.15-1~deb12u10", Architecture: "amd64", Size: 73908,
			SHA256:  "784e17b51024ff878fd7d709a68346658fa9b21f6de740cb75e474f28790971c",
			Depends: [][]string{{"init-system-helpers"}, {"lsb-base"}, {"redis-tools"}}},
		{Name: "redis-tools", Version: "5:7.0.15-1~deb12u10", Architecture: "amd64", Size: 991988,
			SHA256:  "f791cfcbf3054832bd6e786546acb0d4e046888f8e63bcf567c1c65fbfaf69e2",
			Depends: [][]string{{"adduser"}, {"libatomic1"}, {"libc6"}, {"libjemalloc2"}, {"liblzf1"}, {"libssl3"}, {"libsystemd0"}}},
	}
	if len(list) != 3 || list[2].Name != "init-system-helpers" {
		t.Fatalf("%d packages: %+v", len(list), list)
	}
	if diff := cmp.Diff(want, list[:2]); diff != "" {
		t.Error(diff)
	}
	if got, want := list[0].File(), "redis-server_5%3a7.0.15-1~deb12u10_amd64.deb"; got != want {
		t.Errorf("file %s, want %s", got, want)
	}
}

func TestDependenciesLoseVersionsAndArchitectures(t *testing.T) {
	got := parseDepends("libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, perl:any, foo [amd64], , -bad, libfoo(>=1)")
	want := [][]string{{"libc6"}, {"debconf", "debconf-2.0"}, {"perl"}, {"foo"}, {"libfoo"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPathsAreThoseOfAMergedSystem(t *testing.T) {
	for in, want := range map[string]string{
		"./lib/x86_64-linux-gnu/libc.so.6": "/usr/lib/x86_64-linux-gnu/libc.so.6", "/bin/sh": "/usr/bin/sh", "/lib64/ld.so": "/usr/lib64/ld.so",
		"./usr/bin/x": "/usr/bin/x", "/library/x": "/library/x", "./": "/", "../../etc/x": "/etc/x", "/sbin": "/usr/sbin",
	} {
		if got := Merged(in); got != want {
			t.Errorf("Merged(%s) = %s, want %s", in, got, want)
		}
	}
}
