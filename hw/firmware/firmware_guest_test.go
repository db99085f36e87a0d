//go:build guest

package firmware_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/firmware"
	"initd/hw/sysfs/sysfstest"
)

// The machine has the captures ibft_two_nics and nbft_two_paths as its firmware's tables, and iscsi_ibft is loaded.
func TestTheKernelShowsTheFirmwaresTables(t *testing.T) {
	sys := sysfstest.Open(t)
	if !sys.Exists("sys/firmware/ibft/initiator") {
		t.Fatal("iscsi_ibft has not found the table")
	}
	got, err := firmware.Read(sys)
	if err != nil || len(got) != 2 {
		t.Fatalf("got %d tables, %v; want the iBFT and the NBFT", len(got), err)
	}
	for i, name := range []string{"ibft_two_nics", "nbft_two_paths"} {
		var want firmware.Table
		b, err := os.ReadFile("testdata/" + name + ".json")
		if err == nil {
			err = json.Unmarshal(b, &want)
		}
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want.NICs[0].PCI, got[0].NICs[0].PCI = "", "" // a link to a device that this machine may not have
		}
		w, g := show(t, want), show(t, got[i])
		if diff := cmp.Diff(strings.Split(w, "\n"), strings.Split(g, "\n")); diff != "" {
			t.Errorf("%s (-capture +kernel):\n%s", name, diff)
		}
	}
	own, reverse, err := firmware.CHAPSecrets(sys, 0)
	if err != nil || string(own.Bytes()) != "0123456789abcdef" || string(reverse.Bytes()) != "fedcba9876543210" {
		t.Errorf("the secrets are others than the table's (%v)", err)
	}
	own.Destroy()
	reverse.Destroy()
}

func show(t *testing.T, table firmware.Table) string {
	t.Helper()
	b, err := json.MarshalIndent(table, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
