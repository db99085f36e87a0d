package scenario

import (
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// Kernel parameters of the file are set; one that this kernel does not have
// degrades its own unit, and ready is reached.
func TestKernelParametersAreSet(t *testing.T) {
	s := newSite(t, kmsAV4, kmsBV4)
	s.appliance = `apiVersion: initd/v1
name: store
sysctl: {vm.swappiness: "7", net.ipv4.tcp_rmem: "4096 131072 7000000", vm.swapiness: "1"}
services:
` + strings.Replace(handsService, "    after: [mount/srv/tank0, mount/srv/tank1, mount/srv/tank2]\n", "", 1) + "image:\n  packages: []\n"
	handsOnly(s)
	store := s.newStore().Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	store.WaitEvent("the hands are there", unit("service/hands", "done"), vm.Guard)
	for file, want := range map[string]string{"vm/swappiness": "7\n", "net/ipv4/tcp_rmem": "4096\t131072\t7000000\n"} {
		if got := hand(t, store, "read", "/proc/sys/"+file, "").Field("text"); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	e := store.WaitEvent("the misspelt one is degraded", unit("sysctl/vm.swapiness", "degraded"), vm.Guard)
	if !strings.Contains(string(e.Line), "SYSCTL-UNKNOWN") {
		t.Errorf("got %s, want the code SYSCTL-UNKNOWN", e.Line)
	}
}
