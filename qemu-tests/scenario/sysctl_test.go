package scenario

import (
	"strings"
	"testing"

	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// Kernel parameters of the file are set; one that this kernel does not have
// degrades its own unit, and ready is reached.
func TestKernelParametersAreSet(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Appliance = `apiVersion: initd/v1
name: store
sysctl: {vm.swappiness: "7", net.ipv4.tcp_rmem: "4096 131072 7000000", vm.swapiness: "1"}
services:
` + room.HandsService + "image:\n  packages: []\n"
	s.AddHands()
	store := s.NewStore().Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	store.WaitEvent("the hands are there", room.Unit("service/hands", "done"), vm.Guard)
	for file, want := range map[string]string{"vm/swappiness": "7\n", "net/ipv4/tcp_rmem": "4096\t131072\t7000000\n"} {
		if got := room.Hand(t, store, "read", "/proc/sys/"+file, "").Field("text"); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	e := store.WaitEvent("the misspelt one is degraded", room.Unit("sysctl/vm.swapiness", "degraded"), vm.Guard)
	if !strings.Contains(string(e.Line), "SYSCTL-UNKNOWN") {
		t.Errorf("got %s, want the code SYSCTL-UNKNOWN", e.Line)
	}
}
