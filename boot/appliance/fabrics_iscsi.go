package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ISCSI is one target to log in to, at one portal or several. Without options
// it suits a disk that must never fail: a lost connection is made anew for
// ever, and I/O waits.
type ISCSI struct {
	Pos       Pos           `yaml:"-"`
	Name      string        `yaml:"name" want:"required" doc:"what this file calls it: iscsi/NAME, and iscsi/NAME/LUN its disks"`
	Target    string        `yaml:"target" want:"required" doc:"iSCSI name: iqn.YEAR-MONTH.DOMAIN:…, eui.… or naa.…"`
	Portals   []ISCSIPortal `yaml:"portals" want:"required" doc:"ADDRESS[:3260], or {address: …, host-address: …, host-interface: …}; a session each, and a multipath map over them"`
	LUNs      []ISCSILUN    `yaml:"luns" doc:"LUNs to use (default: LUN 0, called 0); no others are looked for"`
	CHAP      *ISCSICHAP    `yaml:"chap" private:"true" doc:"authentication"`
	MinPaths  int           `yaml:"min-paths" doc:"portals that must be logged in to (default 1); the others join later"`
	Options   ISCSIOptions  `yaml:"options" doc:"parameters of the sessions"`
	Initiator string        `yaml:"initiator" doc:"this machine's name (default: the firmware's, /etc/iscsi/initiatorname.iscsi, or made of the machine's UUID)"`
	Active    string        `yaml:"active" doc:"here (default), or cluster: logged in to, but never mounted by itself"`
	Policy    `yaml:",inline"`
}

// ISCSIPortal is one way to a target: ADDRESS[:PORT].
type ISCSIPortal struct{ Way }

// ISCSILUN is one disk of a target.
type ISCSILUN struct {
	Pos  Pos    `yaml:"-"`
	LUN  int    `yaml:"lun" want:"required" doc:"number, 0 to 16383"`
	Name string `yaml:"name" doc:"what this file calls it: iscsi/TARGET'S NAME/NAME (default: the number)"`
}

// NameOr is the name, or the number.
func (l ISCSILUN) NameOr() string {
	if l.Name != "" {
		return l.Name
	}
	return strconv.Itoa(l.LUN)
}

// Disks are the LUNs, or the default one.
func (i ISCSI) Disks() []ISCSILUN {
	if len(i.LUNs) == 0 {
		return []ISCSILUN{{}}
	}
	return i.LUNs
}

// ISCSICHAP is who this machine is to a target. Secrets come as they are, a
// newline at their end aside.
type ISCSICHAP struct {
	Pos        Pos       `yaml:"-"`
	User       string    `yaml:"user" want:"required" doc:"name that the target knows"`
	Secret     KeySource `yaml:"secret" want:"required" doc:"kmip, {kmip: …} or {file: PATH}; on a key server it has the target's name"`
	MutualUser string    `yaml:"mutual-user" doc:"name that the target has to give (default: any)"`
	Mutual     KeySource `yaml:"mutual" doc:"the target's secret, where it has to prove itself too: kmip (NAME-mutual), {kmip: …} or {file: PATH}"`
	Algorithms []string  `yaml:"algorithms" doc:"sha256, sha3-256, sha1, md5: what may be used, best first (default: all, in this order)"`
}

// ISCSIOptions are the parameters of a session; open-iscsi's names stand in
// initd iscsi login --help.
type ISCSIOptions struct {
	HeaderDigest       string   `yaml:"header-digest" doc:"none (default), crc32c, or crc32c,none: what is best first"`
	DataDigest         string   `yaml:"data-digest" doc:"the same for data"`
	MaxRecv            int      `yaml:"max-recv" doc:"bytes that we take in a PDU (default 262144)"`
	MaxXmit            int      `yaml:"max-xmit" doc:"bytes that we send in a PDU at most (default: what the target takes)"`
	MaxBurst           int      `yaml:"max-burst" doc:"bytes (default 262144)"`
	FirstBurst         int      `yaml:"first-burst" doc:"bytes (default 65536)"`
	MaxR2T             int      `yaml:"max-r2t" doc:"outstanding R2Ts, a power of 2 (default 1)"`
	InitialR2T         *bool    `yaml:"initial-r2t" doc:"default false"`
	ImmediateData      *bool    `yaml:"immediate-data" doc:"default true"`
	Time2Wait          Duration `yaml:"time2wait" doc:"before a lost connection is made anew (default 2s, or what the target wants)"`
	NopInterval        Duration `yaml:"nop-interval" doc:"idle time after which the target is pinged (default 5s)"`
	NopTimeout         Duration `yaml:"nop-timeout" doc:"for a ping's answer (default 5s)"`
	RecoveryTimeout    Limit    `yaml:"recovery-timeout" doc:"for which I/O waits for a lost connection: never (it does not fail), or a time (default: never with one portal, 5s on each of several, so that I/O moves to another; with all of them lost it waits)"`
	AbortTimeout       Duration `yaml:"abort-timeout" doc:"default 15s"`
	LUNResetTimeout    Duration `yaml:"lun-reset-timeout" doc:"default 30s"`
	TargetResetTimeout Duration `yaml:"target-reset-timeout" doc:"default 30s"`
	FastAbort          *bool    `yaml:"fast-abort" doc:"default true"`
	Commands           int      `yaml:"commands" doc:"that a session holds, a power of 2 from 16 to 4096 (default 128)"`
	QueueDepth         int      `yaml:"queue-depth" doc:"commands that a LUN holds (default 32)"`
	LoginTimeout       Duration `yaml:"login-timeout" doc:"for which one attempt may take (default 45s)"`
}

// ISCSIPort is iSCSI's (RFC 7143, 4.2.7.1).
const ISCSIPort = 3260

// HostPort reads the address: HOST and port, numeric or a name.
func (p ISCSIPortal) HostPort() (host string, port int, err error) {
	s := p.Address
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), ISCSIPort, nil
	}
	if in, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(in, "]") {
		s += ":" + strconv.Itoa(ISCSIPort)
	}
	if !strings.Contains(s, ":") {
		return s, ISCSIPort, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address with a port", p.shown())
	}
	n, err := p.port(text)
	if err != nil {
		return "", 0, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	return host, int(n), nil
}
