// Package uevent hears of devices that come, change and go.
//
// It owns the netlink socket of kernel object events, the two message formats on it (the kernel's own and the one that
// udevd multicasts after it has processed an event), and the enumeration that has to follow a subscription, because
// devices from before it send nothing more. It needs a kernel with NETLINK_KOBJECT_UEVENT and, to enlarge its receive buffer
// beyond net.core.rmem_max, CAP_NET_ADMIN. It never opens a device, never loads a module, never writes to sysfs, and
// keeps no state of the world: that is the consumer's.
//
// The order that loses nothing is: Subscribe, then Enumerate, then read the channel; and Enumerate again whenever an
// event with the action Overflow arrives. The same device may then be seen twice, which a consumer must bear.
package uevent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Action is what happened to a device: the kernel's words (kobject_actions, lib/kobject_uevent.c), and two of ours.
type Action string

const (
	Add     Action = "add"
	Remove  Action = "remove"
	Change  Action = "change"
	Move    Action = "move"
	Online  Action = "online"
	Offline Action = "offline"
	Bind    Action = "bind"
	Unbind  Action = "unbind"

	// Overflow means that the socket's buffer was full and events were lost: enumerate again. It carries no device.
	Overflow Action = "overflow"
	// Failed is the last event of a subscription that broke by itself; Err says why. It carries no device.
	Failed Action = "failed"
)

// Event is one thing that happened to one device.
type Event struct {
	Action Action
	// Path is the device's place below /sys, with a leading slash: "/devices/pci0000:00/0000:00:04.0/virtio1/block/vda".
	Path      string
	Subsystem string
	// Seq is the kernel's sequence number, 0 where an event was found by enumeration.
	Seq uint64
	// Properties are all KEY=VALUE pairs of the message, those above included.
	Properties map[string]string
	// Found marks an event that enumeration made: the device was there, it did not just come.
	Found bool
	Err   error
}

// Name is the kernel's name of the device.
func (e Event) Name() string {
	if name := e.Properties["DEVNAME"]; name != "" {
		return strings.TrimPrefix(name, "/dev/")
	}
	return strings.ReplaceAll(e.Path[strings.LastIndexByte(e.Path, '/')+1:], "!", "/")
}

// errFormat is wrapped by every complaint about a message.
var errFormat = errors.New("uevent: bad message")

// ParseKernel reads a message of the kernel's own group: "add@/devices/…" NUL, then KEY=VALUE NUL ….
func ParseKernel(message []byte) (Event, error) {
	header, rest, ok := bytes.Cut(message, []byte{0})
	if !ok {
		return Event{}, fmt.Errorf("%w: the first field does not end", errFormat)
	}
	action, path, ok := bytes.Cut(header, []byte{'@'})
	if !ok || len(action) == 0 || len(path) == 0 || path[0] != '/' {
		return Event{}, fmt.Errorf("%w: %.80q is not ACTION@PATH", errFormat, header)
	}
	event, err := fromProperties(rest)
	if err != nil {
		return Event{}, err
	}
	if string(event.Action) != string(action) || event.Path != string(path) {
		return Event{}, fmt.Errorf("%w: header %.80q and properties differ", errFormat, header)
	}
	return event, nil
}

// The header that udevd puts before the properties (struct monitor_netlink_header, systemd's
// src/libsystemd/sd-device/device-monitor.c). The magic is in network order, the rest in the machine's.
const (
	udevPrefix     = "libudev\x00"
	udevMagic      = 0xfeedcafe
	udevHeaderSize = 40

	udevMagicAt            = 8
	udevPropertiesOffsetAt = 16
	udevPropertiesLengthAt = 20
)

// ParseUdev reads a message of udevd's group: a binary header, then KEY=VALUE NUL ….
func ParseUdev(message []byte) (Event, error) {
	if len(message) < udevHeaderSize || string(message[:len(udevPrefix)]) != udevPrefix {
		return Event{}, fmt.Errorf("%w: no libudev header", errFormat)
	}
	if magic := binary.BigEndian.Uint32(message[udevMagicAt:]); magic != udevMagic {
		return Event{}, fmt.Errorf("%w: magic %#x, want %#x", errFormat, magic, uint32(udevMagic))
	}
	offset := uint64(binary.NativeEndian.Uint32(message[udevPropertiesOffsetAt:]))
	length := uint64(binary.NativeEndian.Uint32(message[udevPropertiesLengthAt:]))
	if offset < udevHeaderSize || offset+length > uint64(len(message)) {
		return Event{}, fmt.Errorf("%w: properties at %d+%d of %d bytes", errFormat, offset, length, len(message))
	}
	return fromProperties(message[offset : offset+length])
}

func fromProperties(fields []byte) (Event, error) {
	properties := map[string]string{}
	for len(fields) > 0 {
		field, rest, ok := bytes.Cut(fields, []byte{0})
		if !ok {
			return Event{}, fmt.Errorf("%w: the last property does not end", errFormat)
		}
		fields = rest
		// A field without '=' is a tag that a newer sender may add; it is left out.
		if key, value, ok := strings.Cut(string(field), "="); ok && key != "" {
			properties[key] = value
		}
	}
	event := Event{
		Action:     Action(properties["ACTION"]),
		Path:       properties["DEVPATH"],
		Subsystem:  properties["SUBSYSTEM"],
		Properties: properties,
	}
	if event.Action == "" || !strings.HasPrefix(event.Path, "/") || event.Subsystem == "" {
		return Event{}, fmt.Errorf("%w: ACTION, DEVPATH or SUBSYSTEM is missing", errFormat)
	}
	if event.Action == Overflow || event.Action == Failed {
		return Event{}, fmt.Errorf("%w: action %q is not the kernel's", errFormat, event.Action)
	}
	if text := properties["SEQNUM"]; text != "" {
		seq, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Event{}, fmt.Errorf("%w: SEQNUM %.40q", errFormat, text)
		}
		event.Seq = seq
	}
	return event, nil
}
