// Package config is what a test and its peer machine agree on: the file that
// says what the peer does, and the commands it hears later. It owns their form
// and runs nothing.
package config

import (
	"initd/qemu-tests/peer/dhcp"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/peer/nvmet"
	"initd/qemu-tests/peer/router"
)

// Path of the configuration in a peer's image, as JSON.
const Path = "/peer.json"

// Config is all that a peer does.
type Config struct {
	// Links are configured first, in a machine only.
	Links      []network.Link     `json:"links,omitempty"`
	KeyServers []keyserver.Config `json:"keyServers,omitempty"`
	NTP        []ntp.Config       `json:"ntp,omitempty"`
	DHCP       []dhcp.Config      `json:"dhcp,omitempty"`
	Routers    []router.Config    `json:"routers,omitempty"`
	// NVMet makes it an NVMe/TCP target, in a machine only.
	NVMet *nvmet.Config `json:"nvmet,omitempty"`
	// LIO makes it an iSCSI target, in a machine only.
	LIO *lio.Config `json:"lio,omitempty"`
}

// Command is what a test tells a peer by the event port, one JSON object a
// line. Each is answered by {"event":"done","do":…,"server":…}, with an "error" where
// it failed.
type Command struct {
	// Do is stop, start or hang-up (with the name of a key Server), nvmet, lio, or power-off.
	Do     string `json:"do"`
	Server string `json:"server,omitempty"`
	// NVMet is what changes at the NVMe/TCP target.
	NVMet *nvmet.Change `json:"nvmet,omitempty"`
	// LIO is what changes at the iSCSI targets.
	LIO *lio.Change `json:"lio,omitempty"`
}
