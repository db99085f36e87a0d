package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// NVMe is one subsystem to connect to over TCP, or everything that discovery
// controllers list. Without options it suits a disk that must never fail: the
// kernel keeps trying for ever, and I/O waits.
type NVMe struct {
	Pos       Pos         `yaml:"-"`
	Name      string      `yaml:"name" want:"required" doc:"what this file calls it: nvme/NAME, and nvme/NAME/NSID its namespaces"`
	Subsystem string      `yaml:"subsystem" doc:"NQN; without it every subsystem that discovery lists"`
	Paths     []NVMePath  `yaml:"paths" doc:"portals: tcp://ADDRESS[:4420], or {address: …, host-address: …, host-interface: …}"`
	Discovery []NVMePath  `yaml:"discovery" doc:"discovery controllers, written as paths are (port 8009); what they list is followed as it changes"`
	MinPaths  int         `yaml:"min-paths" doc:"paths of each subsystem that must be up (default 1); the others join later"`
	DHCHAP    *NVMeDHCHAP `yaml:"dhchap" private:"true" doc:"authentication by DH-HMAC-CHAP"`
	TLS       *NVMeTLS    `yaml:"tls" doc:"TLS 1.3 with a pre-shared key; needs a handshake daemon (tlshd) on this machine"`
	Options   NVMeOptions `yaml:"options" doc:"what the kernel is told"`
	HostNQN   string      `yaml:"host-nqn" doc:"this machine's name (default: /etc/nvme/hostnqn, or made of the machine's UUID)"`
	HostID    string      `yaml:"host-id" doc:"this machine's UUID; goes with host-nqn"`
	Active    string      `yaml:"active" doc:"here (default), or cluster: connected to, but never mounted by itself"`
	Policy    `yaml:",inline"`
}

// NVMePath is one way to a subsystem or a discovery controller: tcp://ADDRESS[:PORT].
type NVMePath struct{ Way }

// NVMeDHCHAP says where the secrets of DH-HMAC-CHAP come from. Each is a text
// of the form DHHC-1:HH:…: as nvme gen-dhchap-key prints.
type NVMeDHCHAP struct {
	Pos              Pos       `yaml:"-"`
	Secret           KeySource `yaml:"secret" want:"required" doc:"this machine's: kmip, {kmip: …} or {file: PATH}"`
	ControllerSecret KeySource `yaml:"controller-secret" doc:"the subsystem's, where it has to prove itself too"`
}

// NVMeTLS passes a pre-shared key that is in a kernel keyring already.
type NVMeTLS struct {
	Pos     Pos    `yaml:"-"`
	Keyring string `yaml:"keyring" doc:"keyring with the key (default .nvme)"`
}

// NVMeOptions are the kernel's options of a connection.
type NVMeOptions struct {
	Queues         int      `yaml:"queues" doc:"I/O queues (default: one a CPU)"`
	QueueSize      int      `yaml:"queue-size" doc:"commands a queue holds, 16 to 1024 (default 128)"`
	KeepAlive      Duration `yaml:"keep-alive" doc:"a silent controller is noticed within this time (default 5s)"`
	ReconnectDelay Duration `yaml:"reconnect-delay" doc:"between the kernel's attempts (default 2s)"`
	CtrlLoss       Limit    `yaml:"ctrl-loss" doc:"after this time without a controller the disk is removed (default never)"`
	FastIOFail     Limit    `yaml:"fast-io-fail" doc:"after this time without any path I/O fails instead of waiting (default never)"`
	HeaderDigest   bool     `yaml:"header-digest" doc:"checksums over headers (default false)"`
	DataDigest     bool     `yaml:"data-digest" doc:"checksums over data (default false)"`
	IOPolicy       string   `yaml:"io-policy" doc:"how paths share the work: numa (the kernel's default), round-robin or queue-depth"`
}

// Limit is a duration, or never.
type Limit struct {
	Given bool
	Never bool
	After Duration
}

// UnmarshalText reads never or a duration.
func (l *Limit) UnmarshalText(b []byte) error {
	l.Given = true
	if s := string(b); s == "never" {
		l.Never = true
		return nil
	}
	var err error
	if l.After, err = parseDuration(b); err != nil {
		return fmt.Errorf("%q is no limit: write never, or a duration such as 30s or 10m", b)
	}
	return nil
}

// Or returns l, or def where it is not given.
func (l Limit) Or(def Limit) Limit {
	if !l.Given {
		return def
	}
	return l
}

// Ports of NVMe over TCP (TCP Transport Specification 1.0, section 3.1.2).
const (
	NVMePort          = 4420
	NVMeDiscoveryPort = 8009
)

// AddrPort reads the address; port is taken where it names none.
func (p NVMePath) AddrPort(port uint16) (netip.AddrPort, error) {
	rest, ok := strings.CutPrefix(p.Address, "tcp://")
	if !ok {
		if scheme, _, has := strings.Cut(p.Address, "://"); has {
			return netip.AddrPort{}, fmt.Errorf("%q: %s is not built; only tcp is", p.shown(), scheme)
		}
		return netip.AddrPort{}, fmt.Errorf("%q does not begin with tcp://", p.shown())
	}
	rest = strings.TrimSuffix(rest, "/")
	host := rest
	if h, text, err := net.SplitHostPort(rest); err == nil {
		v, err := p.port(text)
		if err != nil {
			return netip.AddrPort{}, err
		}
		host, port = h, v
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %q is no address, and the kernel takes nothing else", p.shown(), withoutUser(host))
	}
	if a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%q: nothing can be connected to at %s", p.shown(), a)
	}
	return netip.AddrPortFrom(a.Unmap(), port), nil
}
