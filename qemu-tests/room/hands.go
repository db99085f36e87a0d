package room

import (
	"strings"
	"testing"

	"initd/qemu-tests/vm"
)

// HandsService is the line of a service that does by hand what a test says.
const HandsService = `  - name: hands
    command: [/usr/bin/hands]
    ready: {file: /run/hands.ready}
`

// AddHands puts the program into the image; the appliance has the service
// already, and an image section.
func (s *Room) AddHands() {
	s.T.Helper()
	program := vm.Program(s.T, "./qemu-tests/guest/hands")
	s.Files["hands"] = program
	s.Appliance = strings.Replace(s.Appliance, "image:\n", "image:\n  files: [{from: hands, to: /usr/bin/hands, mode: \"0755\"}]\n", 1)
}

// What may be resident after a boot, in MiB.
const (
	InitResident  = 4
	InitdResident = 40
)

// Resident is what init and the orchestrator have in memory, in MiB, as the machine's hands read it.
func Resident(t testing.TB, m *vm.VM) (init, initd float64) {
	t.Helper()
	var kib struct{ Init, Initd float64 }
	if err := Hand(t, m, "resident", "", "").Decode(&kib); err != nil {
		t.Fatal(err)
	}
	if kib.Init == 0 || kib.Initd == 0 {
		t.Fatalf("the hands read %v KiB of init and initd", kib)
	}
	return kib.Init / 1024, kib.Initd / 1024
}

// Hand tells the machine's hands to do something, and waits until they have.
func Hand(t testing.TB, m *vm.VM, do, from, to string) vm.Event {
	t.Helper()
	events := m.Events()
	m.Tell(map[string]string{"do": do, "from": from, "to": to})
	e := m.WaitEventAfter(events[len(events)-1], "hands: "+do, vm.Is("hands", "do", do), vm.Guard)
	if why := e.Field("error"); why != "" {
		t.Fatalf("by hand: %s %s %s: %s", do, from, to, why)
	}
	return e
}
