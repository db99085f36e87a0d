package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	breport "initd/boot/report"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// The demo: the appliance of the first scenario boots beside its key servers,
// and is taken down. It leaves out/demo/report.json, boot.svg and console.log,
// and prints the report.
func TestDemo(t *testing.T) {
	s := wellSite(t, room.KMSAV4, room.KMSBV4, room.StoreV4)
	disks := wellDisks(s)
	s.StartPeer()
	store := s.NewStore(disks...).Start()
	store.WaitEvent("ready", vm.Is("ready"), vm.Guard)
	store.WaitEvent("redis is ready", room.Unit("service/redis", "done"), vm.Guard)
	store.CtrlAltDel()
	store.Exited(vm.Guard)

	dir := filepath.Join(vm.Root(t), "out", "demo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := foldOf(t, store)
	write := func(name string, fill func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := fill(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("report.json", func(b *bytes.Buffer) error { return r.JSON(b) })
	write("boot.svg", func(b *bytes.Buffer) error { return r.Plot(b, 0) })
	write("console.log", func(b *bytes.Buffer) error {
		_, err := b.WriteString(strings.Join(store.Console().Lines(), "\n") + "\n")
		return err
	})
	var text bytes.Buffer
	if err := r.Status(&text, breport.Style{}); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\n%s\nout/demo/report.json  the report\nout/demo/boot.svg     the timeline\nout/demo/console.log  what the console showed\n", &text)
	if r.Ready == 0 {
		t.Error("the report does not say that the boot was ready")
	}
}

// foldOf folds what a machine told by its event port.
func foldOf(t *testing.T, m *vm.VM) *breport.Report {
	t.Helper()
	var events []breport.Event
	for _, e := range m.Events() {
		var x breport.Event
		if err := e.Decode(&x); err == nil && x.Seq > 0 {
			events = append(events, x)
		}
	}
	return breport.Fold(events)
}
