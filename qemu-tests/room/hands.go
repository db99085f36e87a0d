package room

import (
	"os"
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
	program, err := os.ReadFile(vm.Build(s.T, "./qemu-tests/guest/hands"))
	if err != nil {
		s.T.Fatal(err)
	}
	s.Files["hands"] = program
	s.Appliance = strings.Replace(s.Appliance, "image:\n", "image:\n  files: [{from: hands, to: /usr/bin/hands, mode: \"0755\"}]\n", 1)
}

// Hand tells the machine's hands to do something, and waits until they have.
func Hand(t *testing.T, m *vm.VM, do, from, to string) vm.Event {
	t.Helper()
	events := m.Events()
	m.Tell(map[string]string{"do": do, "from": from, "to": to})
	e := m.WaitEventAfter(events[len(events)-1], "hands: "+do, vm.Is("hands", "do", do), vm.Guard)
	if why := e.Field("error"); why != "" {
		t.Fatalf("by hand: %s %s %s: %s", do, from, to, why)
	}
	return e
}
