package initd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// starters are the packages of the product that start programs, and which. Networks, fabrics and multipath are the kernel's and
// ours: nothing calls ip, nvme-cli, iscsiadm or multipath.
var starters = map[string]string{
	"hw/mount":      "fsck.TYPE, before a mount",
	"images/debian": "apt-get, dpkg-deb and the like, where images are made",
	"initd":         "the shell, for people",
	"initd/child":   "initd",
	"initd/pid1":    "init and initd, and services as the file has them",
	"v2v/self":      "v2v",
}

// others are the programs that appliances usually call for what is done here.
var others = []string{
	"nvme", "iscsiadm", "iscsid", "iscsistart", "iscsiuio", "multipath", "multipathd", "kpartx", "ip", "ifconfig", "route", "ethtool", "bridge", "brctl", "vconfig",
	"ifenslave", "dhclient", "dhcpcd", "udhcpc", "cryptsetup", "dmsetup", "sedutil-cli", "qemu-img", "qemu-nbd", "modprobe", "udevadm", "mount", "umount",
}

func TestOnlyTheseStartProgramsAndNoneOfOthers(t *testing.T) {
	found := map[string]bool{}
	for _, f := range goFiles(t) {
		top, _, _ := strings.Cut(f.pkg, "/")
		if !slices.Contains([]string{"boot", "hw", "images", "initd", "shutdown", "v2v"}, top) || strings.HasSuffix(f.path, "_test.go") || strings.HasSuffix(f.pkg, "test") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !starts(call) {
				return true
			}
			if found[f.pkg] = true; starters[f.pkg] == "" {
				t.Errorf("%s starts a program: say which in starters, or do without", f.path)
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if name, err := strconv.Unquote(lit.Value); err != nil || slices.Contains(others, path.Base(name)) {
						t.Errorf("%s calls %s", f.path, lit.Value)
					}
				}
			}
			return true
		})
	}
	for pkg := range maps.Keys(starters) {
		if !found[pkg] {
			t.Errorf("%s starts nothing any more: take it out of starters", pkg)
		}
	}
}

// starts tells whether a call starts a program, or looks for one.
func starts(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := s.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch from.Name + "." + s.Sel.Name {
	case "exec.Command", "exec.CommandContext", "exec.LookPath", "os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "unix.Exec":
		return true
	}
	return false
}
