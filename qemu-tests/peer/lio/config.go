// Package lio makes a peer machine an iSCSI target by the kernel's LIO, and breaks it on purpose.
//
// It owns the configuration of LIO in configfs and the faults that can be made there; what LIO cannot be told to do is for
// hw/iscsi/iscsitest, whose scripted servers it runs beside. It needs the modules target_core_mod, target_core_file,
// target_core_iblock, iscsi_target_mod and those of the disks. The disks' content is the test's.
package lio

import "initd/hw/iscsi/iscsitest"

// Config is a target machine.
type Config struct {
	Targets []Target `json:"targets,omitempty"`
	// Discovery wants this user's CHAP before it lists anything.
	Discovery *Auth `json:"discovery,omitempty"`
	// Scripted are login servers that do what LIO cannot.
	Scripted []Scripted `json:"scripted,omitempty"`
	Late     []Late     `json:"late,omitempty"`
	Relays   []Relay    `json:"relays,omitempty"`
}

// Scripted is a server of iscsitest.
type Scripted struct {
	Listen string           `json:"listen"`
	Script iscsitest.Script `json:"script"`
}

// Late is a listener that is deaf for a while after each connection, and passes everything on then.
type Late struct {
	Listen  string `json:"listen"`
	To      string `json:"to"`
	Seconds int    `json:"seconds"`
}

// Target is one.
type Target struct {
	IQN     string   `json:"iqn"`
	Portals []string `json:"portals"` // HOST:PORT, IPv6 in brackets
	LUNs    []LUN    `json:"luns"`
	// Initiators that may use it; none: any, with this target's Auth, if any.
	Initiators []Initiator `json:"initiators,omitempty"`
	Auth       *Auth       `json:"auth,omitempty"`
	// Attributes of the portal group ("default_cmdsn_depth") and its parameters ("HeaderDigest").
	Attributes map[string]string `json:"attributes,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Off        bool              `json:"off,omitempty"`
	// Group is the portal group tag (default 1): one target may stand here several times, with portals and disks of their own.
	Group int `json:"group,omitempty"`
	// Absent: it is not there before the change "add".
	Absent bool `json:"absent,omitempty"`
}

// LUN is a disk of a target.
type LUN struct {
	Number int `json:"number"`
	// MiB of memory, which begin with the content of the file Image, if one is named; or Device, the node of a block device.
	MiB    int    `json:"mib,omitempty"`
	Image  string `json:"image,omitempty"`
	Device string `json:"device,omitempty"`
	// Type is the peripheral device type (SPC-5, table 157) of something that is no disk, such as 1, a tape: of a device of the module scsi_debug,
	// all of which are of the type that was asked for last.
	Type int `json:"type,omitempty"`
	// Serial is the unit serial number that all targets of the same disk show (default: made of target and number).
	Serial string `json:"serial,omitempty"`
	// Same names another disk, TARGET/NUMBER, that this is a second way to.
	Same string `json:"same,omitempty"`
	// ReadOnly: the named initiators may not write.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Initiator may use a target.
type Initiator struct {
	Name string `json:"name"`
	Auth *Auth  `json:"auth,omitempty"`
}

// Auth is CHAP.
type Auth struct {
	User, Password             string
	MutualUser, MutualPassword string
}

// Change is a fault, or its end.
type Change struct {
	// Do is one of these, at Target and its portal group Group (default 1) where nothing else stands: on, off (all targets without
	// one), add (one that was Absent), portal-on, portal-off (Portal), password, mutual-password (of Initiator becomes
	// Value), allow (Initiator, without CHAP), attribute, parameter (Value is NAME=VALUE), lun-add (LUN), lun-same (the LUN of that
	// number becomes another way to its Same), mount (another machine of the cluster, this one, mounts LUN number of Target, writes a
	// file and keeps it), ask-logout (whoever is connected by the relay at Portal is asked to log out), serve (the scripted server at Portal, if there is one, ends, and all that
	// comes there is passed on to Value).
	Do        string `json:"do"`
	Target    string `json:"target,omitempty"`
	Group     int    `json:"group,omitempty"`
	Portal    string `json:"portal,omitempty"`
	Initiator string `json:"initiator,omitempty"`
	Value     string `json:"value,omitempty"`
	LUN       *LUN   `json:"lun,omitempty"`
}
