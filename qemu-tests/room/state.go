package room

import (
	"regexp"
	"testing"

	"initd/qemu-tests/vm"
)

// State is what must not differ after an orchestrator's death.
type State struct {
	Tables    []string `json:"tables"`    // of device mapper: "NAME: START LENGTH TYPE PARAMETERS"
	Mounts    []string `json:"mounts"`    // of devices: "POINT TYPE ROOT OPTIONS"
	Addresses []string `json:"addresses"` // "LINK ADDRESS/BITS", without those the kernel makes itself
	PID       int      `json:"pid"`       // of the service that was asked for; 0: it does not run
	Started   string   `json:"started"`   // its start time, in ticks since boot
	Ledger    []string `json:"ledger"`    // the records of /run/initd/ledger
}

// StateOf asks the machine's hands; comm is the name of a service's process.
func StateOf(t testing.TB, m *vm.VM, comm string) State {
	t.Helper()
	var st State
	if err := Hand(t, m, "state", comm, "").Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

// SameTable compares tables without what differs by chance: the nonce in the
// description of the key, which is made anew each time, and device numbers.
func SameTable(a, b string) bool { return normal(a) == normal(b) }

var keyName = regexp.MustCompile(`:logon:\S+`)

func normal(table string) string { return keyName.ReplaceAllString(table, ":logon:KEY") }
