package sysctl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPath(t *testing.T) {
	for key, want := range map[string]string{
		"vm.swappiness":                   "vm/swappiness",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net.ipv6.conf.all.disable_ipv6":  "net/ipv6/conf/all/disable_ipv6",
		"..":                              "",
		"vm":                              "",
		"vm./../../etc/passwd":            "",
		"/etc/passwd":                     "",
	} {
		got, err := Path(key)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Path(%q): got %q, %v; want %q", key, got, err, want)
		}
	}
}

func TestReadAndWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "net/ipv4"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "net/ipv4/tcp_rmem"), []byte("4096\t131072\t6291456\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sys, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	if v, err := Read(sys, "net.ipv4.tcp_rmem"); err != nil || v != "4096 131072 6291456" {
		t.Errorf("Read: got %q, %v", v, err)
	}
	if err := Write(sys, "net.ipv4.tcp_rmem", "1 2 3"); err != nil {
		t.Error(err)
	}
	var unknown *UnknownError
	if _, err := Read(sys, "net.ipv4.tcp_rmme"); !errors.As(err, &unknown) {
		t.Errorf("a parameter that is not there: got %v", err)
	}
	if err := Write(sys, "net.ipv4.tcp_rmme", "1"); !errors.As(err, &unknown) {
		t.Errorf("writing one that is not there: got %v", err)
	}
}
