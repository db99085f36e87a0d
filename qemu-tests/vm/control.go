package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// qmpGuard bounds QEMU's answer to a command; a memory dump takes seconds.
const qmpGuard = 2 * time.Minute

// QMP runs one command of QEMU's control protocol and gives its result; args may be nil. A refusal fails the test.
func (m *VM) QMP(command string, args any) json.RawMessage {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), qmpGuard)
	defer cancel()
	result, err := m.running().qmp.execute(ctx, command, args)
	if err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return result
}

type members = map[string]any

// Pause stops all CPUs: the machine neither works nor answers, but its disks, wires and peers' connections stay.
func (m *VM) Pause() {
	m.t.Helper()
	m.QMP("stop", nil)
}

// Continue ends a Pause.
func (m *VM) Continue() {
	m.t.Helper()
	m.QMP("cont", nil)
}

// SetLink plugs (true) or pulls (false) the machine's cable to a wire; the guest sees its carrier come and go.
func (m *VM) SetLink(w *Wire, up bool) {
	m.t.Helper()
	found := false
	for i, n := range m.spec.nics {
		if n.wire == w {
			m.QMP("set_link", members{"name": fmt.Sprintf("nic%d", i), "up": up})
			found = true
		}
	}
	if !found {
		m.t.Fatalf("%s: set the link to wire %s: it is not on this wire", m.name, w.name)
	}
}

// AddDisk plugs a disk into the running machine.
func (m *VM) AddDisk(d *Disk) {
	m.t.Helper()
	if d.Bus == SCSI || d.Bus == ATA {
		m.t.Fatalf("%s: add disk %s: only virtio and NVMe disks can come late", m.name, d.Name)
	}
	m.QMP("blockdev-add", json.RawMessage(d.blockdev()))
	m.QMP("device_add", json.RawMessage(d.device()))
}

// RemoveDisk pulls a disk; it returns when the guest has let go of it.
func (m *VM) RemoveDisk(d *Disk, guard time.Duration) {
	m.t.Helper()
	m.QMP("device_del", members{"id": d.Name})
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	_, _, err := m.run.qmp.events.wait(ctx, 0, func(e qmpEvent) bool {
		var data struct {
			Device string `json:"device"`
		}
		return e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &data) == nil && data.Device == d.Name
	})
	if err != nil {
		m.t.Fatalf("%s: remove disk %s: the guest does not let go of it: %s", m.name, d.Name, m.whyNot(err, guard))
	}
	m.QMP("blockdev-del", members{"node-name": d.node()})
}

// Key presses keys together, by QEMU's names (QKeyCode), on the machine's keyboard, which is not its serial console.
func (m *VM) Key(codes ...string) {
	m.t.Helper()
	keys := make([]members, len(codes))
	for i, code := range codes {
		keys[i] = members{"type": "qcode", "data": code}
	}
	m.QMP("send-key", members{"keys": keys})
}

// CtrlAltDel presses just that.
func (m *VM) CtrlAltDel() {
	m.t.Helper()
	m.Key("ctrl", "alt", "delete")
}

// Powerdown presses the power button; a guest hears of it through ACPI (module button).
func (m *VM) Powerdown() {
	m.t.Helper()
	m.QMP("system_powerdown", nil)
}

// Kill takes the power away and returns when the machine is gone.
func (m *VM) Kill() {
	m.t.Helper()
	m.running().kill()
}

// DumpMemory writes the machine's memory to a file, as an ELF core. Absolute path.
func (m *VM) DumpMemory(path string) {
	m.t.Helper()
	m.QMP("dump-guest-memory", members{"paging": false, "protocol": "file:" + path})
}

// Exited waits until the machine has ended and tells how. When the guard has passed, the test fails.
func (m *VM) Exited(guard time.Duration) Exit {
	m.t.Helper()
	r := m.running()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	select {
	case <-r.done:
		return r.exitNow()
	case <-ctx.Done():
	}
	m.t.Fatalf("%s: wait until the machine ends: %s; last events:\n%s", m.name, m.whyNot(ctx.Err(), guard), m.lastEvents(10))
	return Exit{}
}

// PoweredOff waits until the guest has switched itself off, of a machine with the option Keeps: its memory is there still,
// until Kill.
func (m *VM) PoweredOff(guard time.Duration) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	if _, _, err := m.running().qmp.events.wait(ctx, 0, func(e qmpEvent) bool { return e.Name == "SHUTDOWN" }); err != nil {
		m.t.Fatalf("%s: wait until the machine is off: %s; last events:\n%s", m.name, m.whyNot(err, guard), m.lastEvents(10))
	}
}

// Reset presses the reset button. A machine without Reboots ends.
func (m *VM) Reset() {
	m.t.Helper()
	if _, err := m.running().qmp.execute(context.Background(), "system_reset", nil); err != nil && !errors.Is(err, errEnded) {
		m.t.Fatalf("%s: %v", m.name, err)
	}
}
