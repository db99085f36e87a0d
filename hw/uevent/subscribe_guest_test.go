//go:build guest

package uevent

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs/sysfstest"
)

// hang is how long a test waits for an event that must come; it is a guard, never a measure.
const hang = 60 * time.Second

func next(t *testing.T, events <-chan Event) Event {
	t.Helper()
	select {
	case event, ok := <-events:
		if !ok {
			t.Fatal("the subscription ended")
		}
		return event
	case <-time.After(hang):
		t.Fatal("no event came")
	}
	return Event{}
}

// A loopback interface is in every guest, and writing to its uevent file makes the kernel send a synthetic event.
func trigger(t *testing.T, action string) {
	t.Helper()
	if err := os.WriteFile("/sys/class/net/lo/uevent", []byte(action), 0); err != nil {
		t.Fatal(err)
	}
}

func TestTheKernelsEventsArriveInOrderAndTheChannelClosesWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	events, err := Subscribe(ctx, Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []Action{Change, Add, Offline} {
		trigger(t, string(action))
	}
	var last uint64
	for _, action := range []Action{Change, Add, Offline} {
		event := next(t, events)
		if event.Action != action || event.Subsystem != "net" || event.Name() != "lo" || event.Seq <= last {
			t.Errorf("got %+v after %d, want %s of lo", event, last, action)
		}
		last = event.Seq
	}
	cancel()
	for range events {
	}
}

// A reader that sleeps through a burst hears that it lost something, and goes on hearing.
func TestAFullBufferIsReported(t *testing.T) {
	events, err := subscribe(t.Context(), Kernel, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		trigger(t, "change")
	}
	seen := 0
	for event := next(t, events); event.Action != Overflow; event = next(t, events) {
		seen++
	}
	if seen >= 300 {
		t.Errorf("%d of 300 events and an overflow", seen)
	}
	// The burst may have filled the new socket too, before anybody read of the first overflow.
	trigger(t, "remove")
	for event := next(t, events); event.Action != Remove; event = next(t, events) {
		if event.Action == Overflow {
			trigger(t, "remove")
		}
	}
}

func TestTheRealBufferHoldsAColdplugBurst(t *testing.T) {
	events, err := Subscribe(t.Context(), Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		trigger(t, "change")
	}
	for i := range 2000 {
		if event := next(t, events); event.Action != Change {
			t.Fatalf("event %d is %s", i, event.Action)
		}
	}
}

// udevd's messages are made by hand here (the comparison with the real one is in hw/block): one in its format on its
// group from root is heard, one on its group in the kernel's format is dropped.
func TestUdevsGroupIsHeard(t *testing.T) {
	events, err := Subscribe(t.Context(), Udev)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: uint32(Udev)}
	for _, message := range [][]byte{[]byte(loopChange), fromUdev(properties(loopChange))} {
		if err := unix.Sendto(fd, message, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	if event := next(t, events); event.Name() != "loop0" || event.Seq != 815 {
		t.Errorf("got %+v", event)
	}
}

func TestEnumerateAgreesWithTheRunningSystem(t *testing.T) {
	f := sysfstest.Open(t)
	events, err := Enumerate(f)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, event := range events {
		paths[event.Path] = true
		if _, err := os.Stat("/sys" + event.Path); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"/devices/virtual/net/lo", "/devices/virtual/mem/null"} {
		if !paths[want] {
			t.Errorf("%s was not found among %d devices", want, len(events))
		}
	}
}
