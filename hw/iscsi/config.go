package iscsi

import (
	"fmt"
	"net"
)

// Config says which session is wanted. It marshals, and holds no secret.
type Config struct {
	Target    string   `json:"target"`
	Initiator string   `json:"initiator"`
	Portal    Portal   `json:"portal"`
	Settings  Settings `json:"settings"`
	Timing    Timing   `json:"timing"`
	// LUNs that are looked for; AllLUNs looks for all there are.
	LUNs    []uint64 `json:"luns,omitempty"`
	AllLUNs bool     `json:"allLUNs,omitempty"`
	// Interface and Source bind the connection to a network interface and an address of this machine; empty: as routes say.
	Interface string `json:"interface,omitempty"`
	Source    string `json:"source,omitempty"`
}

// Timing is how patient a session is. Seconds; nil or zero is the default.
type Timing struct {
	// NopInterval is how long a connection is idle before the target is asked whether it is there, NopTimeout how long its answer
	// may take (defaults 5 and 5). The kernel wants both above 0.
	NopInterval uint32 `json:"nopInterval,omitempty"`
	NopTimeout  uint32 `json:"nopTimeout,omitempty"`
	// Recovery is how long I/O waits for a lost connection before it fails: -1 for ever (default), 0 not at all.
	Recovery *int32 `json:"recovery,omitempty"`
	// Abort, LUNReset and TargetReset bound the steps of the kernel's error handling (defaults 15, 30, 30).
	Abort       uint32 `json:"abort,omitempty"`
	LUNReset    uint32 `json:"lunReset,omitempty"`
	TargetReset uint32 `json:"targetReset,omitempty"`
	// SlowAbort makes the kernel wait for data in flight before it aborts (open-iscsi's FastAbort=No).
	SlowAbort bool `json:"slowAbort,omitempty"`
	// Commands is how many a session holds, a power of 2 from 16 to 4096 (default 128), Depth how many a LUN (default 32).
	Commands uint16 `json:"commands,omitempty"`
	Depth    uint16 `json:"depth,omitempty"`
}

func (t Timing) filled() (Timing, error) {
	for _, d := range []struct {
		name      string
		v         *uint32
		def, most uint32
	}{
		{"NOP interval", &t.NopInterval, 5, 3600}, {"NOP timeout", &t.NopTimeout, 5, 3600},
		{"abort timeout", &t.Abort, 15, 3600}, {"LUN reset timeout", &t.LUNReset, 30, 3600}, {"target reset timeout", &t.TargetReset, 30, 3600},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v > d.most {
			return t, &SettingError{d.name, fmt.Sprintf("%d s is not within 1 to %d", *d.v, d.most)}
		}
	}
	if t.Recovery == nil {
		t.Recovery = new(int32(-1))
	}
	if *t.Recovery < -1 || *t.Recovery > 7*24*3600 {
		return t, &SettingError{"recovery timeout", fmt.Sprintf("%d s is neither -1 (for ever) nor within 0 to a week", *t.Recovery)}
	}
	if t.Commands == 0 {
		t.Commands = 128
	}
	if t.Commands < 16 || t.Commands > 4096 || t.Commands&(t.Commands-1) != 0 {
		return t, &SettingError{"commands", fmt.Sprintf("%d is no power of 2 from 16 to 4096", t.Commands)}
	}
	if t.Depth == 0 {
		t.Depth = min(32, t.Commands)
	}
	if t.Depth > 1024 {
		return t, &SettingError{"queue depth", fmt.Sprintf("%d is not within 1 to 1024", t.Depth)}
	}
	return t, nil
}

// Check tells whether the session can be asked for at all: a *SettingError says what cannot be.
func (c Config) Check() error { _, err := c.filled(); return err }

func (c Config) filled() (Config, error) {
	var err error
	for _, name := range []string{c.Initiator, c.Target} {
		if err := checkName(name); err != nil {
			return c, err
		}
	}
	if c.Settings, err = c.Settings.filled(); err != nil {
		return c, err
	}
	if c.Timing, err = c.Timing.filled(); err != nil {
		return c, err
	}
	if c.Portal.Port == 0 {
		c.Portal.Port = DefaultPort
	}
	if c.Source != "" && net.ParseIP(c.Source) == nil {
		return c, &SettingError{"source address", fmt.Sprintf("%q is no address", c.Source)}
	}
	return c, nil
}

// param is a parameter of the kernel's (enum iscsi_param) and its value.
type param struct {
	id    uint32
	value string
}

// before are the parameters that hold from the beginning, in the order that was measured.
func (c Config) before(isid ISID, tag int) []param {
	t := c.Timing
	fast := "1"
	if t.SlowAbort {
		fast = "0"
	}
	list := []param{
		{15, c.Target}, {34, c.Initiator}, {17, c.Portal.Host}, {18, fmt.Sprint(c.Portal.Port)},
	}
	if tag >= 0 {
		list = append(list, param{16, fmt.Sprint(tag)})
	}
	return append(list, []param{
		{32, mark + isid.String()},
		{30, utoa(t.NopTimeout)}, {31, utoa(t.NopInterval)}, {26, fast},
		{27, utoa(t.Abort)}, {28, utoa(t.LUNReset)}, {35, utoa(t.TargetReset)}, {19, fmt.Sprint(*t.Recovery)},
	}...)
}

// agreed are the parameters that a login has come to.
func agreedParams(a Agreed, statSN uint32) []param {
	flag := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	return []param{
		{0, utoa(a.MaxRecv)}, {1, utoa(a.MaxXmit)}, {2, flag(a.HeaderDigest)}, {3, flag(a.DataDigest)},
		{4, flag(a.InitialR2T)}, {5, utoa(a.MaxR2T)}, {6, flag(a.ImmediateData)}, {7, utoa(a.FirstBurst)}, {8, utoa(a.MaxBurst)},
		{9, flag(a.PDUInOrder)}, {10, flag(a.SeqInOrder)}, {11, utoa(a.ErrorRecovery)}, {14, utoa(statSN + 1)},
	}
}

func (k *Kernel) setAll(sid uint32, list []param) error {
	for _, p := range list {
		if err := k.setParam(sid, p.id, p.value); err != nil {
			return err
		}
	}
	return nil
}
