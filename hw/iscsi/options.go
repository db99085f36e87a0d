package iscsi

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Option is one parameter of a session by the name that files and commands use.
type Option struct {
	Name, Doc string
	set       func(c *Config, value string) error
}

// Options lists every parameter that can be set, each with open-iscsi's name of it in its description.
func Options() []Option {
	length := func(at func(*Config) *uint32) func(*Config, string) error {
		return func(c *Config, v string) error {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no number above 0", v)
			}
			*at(c) = uint32(n)
			return nil
		}
	}
	small := func(at func(*Config) *uint16) func(*Config, string) error {
		return func(c *Config, v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no number above 0", v)
			}
			*at(c) = uint16(n)
			return nil
		}
	}
	seconds := func(at func(*Config) *uint32) func(*Config, string) error {
		return func(c *Config, v string) error {
			n, err := wholeSeconds(v)
			if err == nil && n == 0 {
				err = fmt.Errorf("the kernel takes 1s and more")
			}
			*at(c) = n
			return err
		}
	}
	orZero := func(at func(*Config) **uint32) func(*Config, string) error {
		return func(c *Config, v string) error {
			n, err := wholeSeconds(v)
			*at(c) = &n
			return err
		}
	}
	flag := func(at func(*Config) *bool, when string) func(*Config, string) error {
		return func(c *Config, v string) error {
			if v != "true" && v != "false" {
				return fmt.Errorf("%q is neither true nor false", v)
			}
			*at(c) = v == when
			return nil
		}
	}
	digest := func(at func(*Config) *[]string) func(*Config, string) error {
		return func(c *Config, v string) (err error) {
			*at(c), err = ParseDigest(v)
			return err
		}
	}
	return []Option{
		{"header-digest", "none (default), crc32c, or crc32c,none: what is best first (conn.iscsi.HeaderDigest)", digest(func(c *Config) *[]string { return &c.Settings.HeaderDigest })},
		{"data-digest", "the same for data (conn.iscsi.DataDigest)", digest(func(c *Config) *[]string { return &c.Settings.DataDigest })},
		{"max-recv", "bytes that we take in a PDU, default 262144 (MaxRecvDataSegmentLength)", length(func(c *Config) *uint32 { return &c.Settings.MaxRecv })},
		{"max-xmit", "bytes that we send in a PDU at most, default what the target takes (MaxXmitDataSegmentLength)", length(func(c *Config) *uint32 { return &c.Settings.MaxXmit })},
		{"max-burst", "bytes, default 262144 (MaxBurstLength)", length(func(c *Config) *uint32 { return &c.Settings.MaxBurst })},
		{"first-burst", "bytes, default 65536 (FirstBurstLength)", length(func(c *Config) *uint32 { return &c.Settings.FirstBurst })},
		{"max-r2t", "a power of 2, default 1 (MaxOutstandingR2T)", length(func(c *Config) *uint32 { return &c.Settings.MaxR2T })},
		{"initial-r2t", "true or false (default) (InitialR2T)", flag(func(c *Config) *bool { return &c.Settings.InitialR2T }, "true")},
		{"immediate-data", "true (default) or false (ImmediateData)", flag(func(c *Config) *bool { return &c.Settings.NoImmediate }, "false")},
		{"time2wait", "before a lost connection is made anew, default 2s (DefaultTime2Wait)", orZero(func(c *Config) **uint32 { return &c.Settings.Time2Wait })},
		{"time2retain", "for which the target keeps a lost session, default 0s (DefaultTime2Retain)", orZero(func(c *Config) **uint32 { return &c.Settings.Time2Retain })},
		{"nop-interval", "idle time after which the target is pinged, default 5s (noop_out_interval)", seconds(func(c *Config) *uint32 { return &c.Timing.NopInterval })},
		{"nop-timeout", "for a ping's answer, default 5s (noop_out_timeout)", seconds(func(c *Config) *uint32 { return &c.Timing.NopTimeout })},
		{"recovery-timeout", "for which I/O waits for a lost connection: never (default: it never fails), or a time (replacement_timeout)", setRecovery},
		{"abort-timeout", "default 15s (err_timeo.abort_timeout)", seconds(func(c *Config) *uint32 { return &c.Timing.Abort })},
		{"lun-reset-timeout", "default 30s (err_timeo.lu_reset_timeout)", seconds(func(c *Config) *uint32 { return &c.Timing.LUNReset })},
		{"target-reset-timeout", "default 30s (err_timeo.tgt_reset_timeout)", seconds(func(c *Config) *uint32 { return &c.Timing.TargetReset })},
		{"fast-abort", "true (default) or false (FastAbort)", flag(func(c *Config) *bool { return &c.Timing.SlowAbort }, "false")},
		{"commands", "that a session holds, a power of 2 from 16 to 4096, default 128 (session.cmds_max)", small(func(c *Config) *uint16 { return &c.Timing.Commands })},
		{"queue-depth", "commands that a LUN holds, 1 to 1024, default 32 (session.queue_depth)", small(func(c *Config) *uint16 { return &c.Timing.Depth })},
	}
}

func setRecovery(c *Config, v string) error {
	forever := int32(-1)
	if v == "never" {
		c.Timing.Recovery = &forever
		return nil
	}
	n, err := wholeSeconds(v)
	if err != nil {
		return err
	}
	c.Timing.Recovery = new(int32(min(n, 1<<30)))
	return nil
}

// wholeSeconds reads a time such as 5s or 2m.
func wholeSeconds(v string) (uint32, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d%time.Second != 0 || d > 7*24*time.Hour {
		return 0, fmt.Errorf("%q is no time in whole seconds, such as 5s or 2m", v)
	}
	return uint32(d / time.Second), nil
}

// ParseDigest reads none, crc32c, or both with a comma, best first.
func ParseDigest(v string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(v, ",") {
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "none":
			list = append(list, none)
		case "crc32c":
			list = append(list, digestCRC)
		default:
			return nil, fmt.Errorf("%q is neither none nor crc32c", word)
		}
	}
	return list, nil
}

// Set sets one parameter by its name.
func (c *Config) Set(name, value string) error {
	for _, o := range Options() {
		if o.Name == name {
			if err := o.set(c, value); err != nil {
				return &SettingError{name, err.Error()}
			}
			return nil
		}
	}
	return &SettingError{name, "there is no such parameter"}
}
