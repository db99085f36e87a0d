package iscsi

import (
	"fmt"
	"slices"
	"strings"
)

// Settings are what an initiator proposes in a login. The zero value of each field is its default.
type Settings struct {
	HeaderDigest []string `json:"headerDigest,omitempty"` // None, CRC32C in order of preference (default None)
	DataDigest   []string `json:"dataDigest,omitempty"`   // the same
	// MaxRecv is what we take in one PDU, bytes, 512 to 2^24-1 (default 262144).
	MaxRecv uint32 `json:"maxRecv,omitempty"`
	// MaxXmit bounds what we send in one PDU below what the target takes, bytes (default: what it takes).
	MaxXmit     uint32 `json:"maxXmit,omitempty"`
	MaxBurst    uint32 `json:"maxBurst,omitempty"`    // bytes (default 262144)
	FirstBurst  uint32 `json:"firstBurst,omitempty"`  // bytes, at most MaxBurst (default 65536)
	MaxR2T      uint32 `json:"maxR2T,omitempty"`      // MaxOutstandingR2T, a power of 2 (default 1)
	InitialR2T  bool   `json:"initialR2T,omitempty"`  // Yes instead of No
	NoImmediate bool   `json:"noImmediate,omitempty"` // ImmediateData=No instead of Yes
	// Time2Wait and Time2Retain in seconds, 0 to 3600 (defaults 2 and 0; -1 is not used: nil is the default).
	Time2Wait   *uint32 `json:"time2Wait,omitempty"`
	Time2Retain *uint32 `json:"time2Retain,omitempty"`
}

// Defaults of what is proposed.
const (
	defaultMaxRecv    = 262144
	defaultMaxBurst   = 262144
	defaultFirstBurst = 65536
	defaultTime2Wait  = 2
	maxLength         = 1<<24 - 1
)

// SettingError says which value cannot be used.
type SettingError struct{ Name, Reason string }

func (e *SettingError) Error() string { return e.Name + ": " + e.Reason }

// Code is the stable code of this error.
func (*SettingError) Code() string { return "ISCSI-CONFIG" }

// Retryable is false: the value stays what it is.
func (*SettingError) Retryable() bool { return false }

// insists names the digests that are offered without None beside them; "" where a target is free to do without.
func (s Settings) insists() string {
	var list []string
	for _, d := range []struct {
		name   string
		values []string
	}{{keyHeaderDigest, s.HeaderDigest}, {keyDataDigest, s.DataDigest}} {
		if len(d.values) > 0 && !slices.Contains(d.values, none) {
			list = append(list, d.name+"="+strings.Join(d.values, ","))
		}
	}
	return strings.Join(list, " and ")
}

// filled returns s with its defaults in place, or a *SettingError.
func (s Settings) filled() (Settings, error) {
	for _, d := range []struct {
		name string
		list *[]string
	}{{keyHeaderDigest, &s.HeaderDigest}, {keyDataDigest, &s.DataDigest}} {
		if len(*d.list) == 0 {
			*d.list = []string{none}
		}
		for i, v := range *d.list {
			if v != none && v != digestCRC || slices.Contains((*d.list)[:i], v) {
				return s, &SettingError{d.name, fmt.Sprintf("%q is not one of None and CRC32C, each once", v)}
			}
		}
	}
	for _, n := range []struct {
		name           string
		v              *uint32
		def, low, high uint32
	}{
		{keyMaxRecv, &s.MaxRecv, defaultMaxRecv, 512, maxLength},
		{"MaxXmitDataSegmentLength", &s.MaxXmit, maxLength, 512, maxLength},
		{keyMaxBurst, &s.MaxBurst, defaultMaxBurst, 512, maxLength},
		{keyFirstBurst, &s.FirstBurst, min(defaultFirstBurst, s.burst()), 512, maxLength},
		{keyMaxR2T, &s.MaxR2T, 1, 1, 65536}, // iscsi_tcp: a power of 2
	} {
		if *n.v == 0 {
			*n.v = n.def
		}
		if *n.v < n.low || *n.v > n.high {
			return s, &SettingError{n.name, fmt.Sprintf("%d is not within %d to %d", *n.v, n.low, n.high)}
		}
	}
	if s.MaxR2T&(s.MaxR2T-1) != 0 {
		return s, &SettingError{keyMaxR2T, fmt.Sprintf("%d is no power of 2", s.MaxR2T)}
	}
	if s.FirstBurst > s.MaxBurst {
		return s, &SettingError{keyFirstBurst, fmt.Sprintf("%d is more than MaxBurstLength, %d", s.FirstBurst, s.MaxBurst)}
	}
	for _, t := range []struct {
		name string
		v    **uint32
		def  uint32
	}{{keyTime2Wait, &s.Time2Wait, defaultTime2Wait}, {keyTime2Retain, &s.Time2Retain, 0}} {
		if *t.v == nil {
			*t.v = &t.def
		}
		if **t.v > 3600 {
			return s, &SettingError{t.name, fmt.Sprintf("%d is not within 0 to 3600", **t.v)}
		}
	}
	return s, nil
}

func (s Settings) burst() uint32 {
	if s.MaxBurst == 0 {
		return defaultMaxBurst
	}
	return s.MaxBurst
}

// Agreed is what initiator and target have settled on.
type Agreed struct {
	HeaderDigest  bool   `json:"headerDigest"`
	DataDigest    bool   `json:"dataDigest"`
	MaxRecv       uint32 `json:"maxRecv"` // what we take in one PDU
	MaxXmit       uint32 `json:"maxXmit"` // what the target takes
	MaxBurst      uint32 `json:"maxBurst"`
	FirstBurst    uint32 `json:"firstBurst"`
	MaxR2T        uint32 `json:"maxR2T"`
	InitialR2T    bool   `json:"initialR2T"`
	ImmediateData bool   `json:"immediateData"`
	PDUInOrder    bool   `json:"pduInOrder"`
	SeqInOrder    bool   `json:"seqInOrder"`
	ErrorRecovery uint32 `json:"errorRecovery"`
	Time2Wait     uint32 `json:"time2Wait"`
	Time2Retain   uint32 `json:"time2Retain"`
}
