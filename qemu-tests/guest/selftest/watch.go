package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"initd/qemu-tests/guest/event"
)

// etherType of the frames that the test has sent: IEEE 802's for local experiments.
const etherType = 0x88b5

// watchDisks tells of the disks that are there and of those that come and go, by the kernel's own uevents.
func watchDisks(port *event.Port) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("uevents: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("uevents: %w", err)
	}
	present, err := filepath.Glob("/sys/class/block/vd*")
	if err != nil {
		return err
	}
	for _, disk := range present {
		if err := tellDisk(port, "disk", filepath.Base(disk)); err != nil {
			return err
		}
	}
	buf := make([]byte, 1<<14)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("uevents: %w", err)
		}
		members := map[string]string{}
		for field := range bytes.SplitSeq(buf[:n], []byte{0}) {
			if key, value, ok := strings.Cut(string(field), "="); ok {
				members[key] = value
			}
		}
		if members["SUBSYSTEM"] != "block" {
			continue
		}
		switch members["ACTION"] {
		case "add":
			err = tellDisk(port, "disk", members["DEVNAME"])
		case "remove":
			err = port.Emit("disk-gone", map[string]any{"name": members["DEVNAME"]})
		}
		if err != nil {
			return err
		}
	}
}

func tellDisk(port *event.Port, event, name string) error {
	serial, err := os.ReadFile("/sys/class/block/" + name + "/serial")
	if err != nil {
		return err
	}
	f, err := os.Open("/dev/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 16)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	return port.Emit(event, map[string]any{"name": name, "serial": strings.TrimSpace(string(serial)), "head": string(bytes.TrimRight(head, "\x00"))})
}

// watchConsole tells of lines that somebody types.
func watchConsole(port *event.Port) {
	fmt.Print("selftest> ")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		port.Emit("typed", map[string]any{"line": lines.Text()}) //nolint:errcheck // the test misses it
		fmt.Print("selftest> ")
	}
}

func packetSocket() (fd int, index int, err error) {
	nic, err := net.InterfaceByName("eth0")
	if err != nil {
		return 0, 0, nil // a machine without a wire
	}
	const protocol = etherType>>8 | etherType&0xff<<8 // network byte order
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, 0, fmt.Errorf("packet socket: %w", err)
	}
	return fd, nic.Index, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: nic.Index})
}

// linkUp sets an interface up (netdevice(7)).
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// watchWire tells of the frames of our type that come, and when it can hear them.
func watchWire(port *event.Port) error {
	fd, index, err := packetSocket()
	if err != nil || index == 0 {
		if err == nil {
			select {}
		}
		return err
	}
	if err := linkUp("eth0"); err != nil {
		return fmt.Errorf("eth0 up: %w", err)
	}
	if err := port.Emit("listening", nil); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive a frame: %w", err)
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING || n < 16 {
			continue
		}
		length := int(binary.BigEndian.Uint16(buf[14:16]))
		if err := port.Emit("frame", map[string]any{"from": net.HardwareAddr(buf[6:12]).String(), "text": string(buf[16:min(n, 16+length)])}); err != nil {
			return err
		}
	}
}

// send broadcasts a frame with this text.
func send(text string) error {
	nic, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, index, err := packetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nic.HardwareAddr...)
	frame = binary.BigEndian.AppendUint16(frame, etherType)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(text)))
	frame = append(frame, text...)
	if len(frame) < 60 {
		frame = append(frame, make([]byte, 60-len(frame))...)
	}
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
}
