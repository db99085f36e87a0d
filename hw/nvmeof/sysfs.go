package nvmeof

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"initd/hw/sysfs"
)

// State of a controller, in the kernel's words (nvme_sysfs_show_state, drivers/nvme/host/sysfs.c).
type State string

// States.
const (
	StateNew        State = "new"
	StateLive       State = "live"
	StateResetting  State = "resetting"
	StateConnecting State = "connecting"
	StateDeleting   State = "deleting"
	StateDead       State = "dead"
)

// Ending tells whether a controller is on its way out.
func (s State) Ending() bool {
	return strings.HasPrefix(string(s), string(StateDeleting)) || s == StateDead
}

// Controller is one connection, or one PCI device.
type Controller struct {
	Name      string `json:"name"` // nvme0
	State     State  `json:"state"`
	Transport string `json:"transport"`      // tcp, pcie, loop …
	Type      string `json:"type,omitempty"` // io, discovery, admin
	Target
	Source         netip.Addr `json:"source,omitzero"` // where the connection comes from
	Host           Host       `json:"host"`
	CntlID         int        `json:"cntlid"`
	Model          string     `json:"model,omitempty"`
	Serial         string     `json:"serial,omitempty"`
	KeepAlive      string     `json:"keepAlive,omitempty"` // seconds, as sysfs has them
	CtrlLoss       string     `json:"ctrlLoss,omitempty"`  // seconds, or off
	FastIOFail     string     `json:"fastIOFail,omitempty"`
	ReconnectDelay string     `json:"reconnectDelay,omitempty"`
	// Subsystem is the name of the subsystem that it belongs to: nvme-subsys0.
	Subsystem string `json:"subsystem,omitempty"`
	// Legs are its ways to namespaces.
	Legs []Leg `json:"legs,omitempty"`
	// Owner is who registered it as its own; "" nobody.
	Owner string `json:"owner,omitempty"`
}

// Fabric tells whether the controller is a connection, and no device of this machine.
func (c Controller) Fabric() bool {
	return c.Transport == "tcp" || c.Transport == "rdma" || c.Transport == "fc"
}

// Leg is one controller's way to one namespace. It has no node.
type Leg struct {
	Name     string `json:"name"` // nvme0c1n1
	NSID     int    `json:"nsid"`
	ANAState string `json:"anaState,omitempty"`
	ANAGroup int    `json:"anaGroup,omitempty"`
}

// Namespace is a disk: /dev/NAME.
type Namespace struct {
	Name  string `json:"name"` // nvme0n1
	NSID  int    `json:"nsid"`
	WWID  string `json:"wwid,omitempty"` // uuid.…, eui.… or nvme.…
	UUID  string `json:"uuid,omitempty"`
	NGUID string `json:"nguid,omitempty"`
	EUI   string `json:"eui,omitempty"`
	Bytes uint64 `json:"bytes"`
	// ReadOnly namespaces refuse writes.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Subsystem is what several controllers may be ways to.
type Subsystem struct {
	Name        string       `json:"name"` // nvme-subsys0
	NQN         string       `json:"nqn"`
	Type        string       `json:"type,omitempty"` // nvm, discovery
	IOPolicy    string       `json:"ioPolicy,omitempty"`
	Controllers []Controller `json:"controllers"`
	Namespaces  []Namespace  `json:"namespaces"`
}

var (
	controllerName = regexp.MustCompile(`^nvme[0-9]+$`)
	namespaceName  = regexp.MustCompile(`^nvme[0-9]+n[0-9]+$`)
	legName        = regexp.MustCompile(`^nvme[0-9]+c[0-9]+n[0-9]+$`)
)

// Read reads every subsystem with its controllers and namespaces, those of PCI devices too, sorted by name. What vanishes
// meanwhile is left out.
func Read(f *sysfs.FS) ([]Subsystem, error) {
	controllers, err := Controllers(f)
	if err != nil {
		return nil, err
	}
	names, err := f.Names("sys/class/nvme-subsystem")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list NVMe subsystems: %w", err)
	}
	var list []Subsystem
	placed := map[string]bool{}
	for _, name := range names {
		at, err := f.Device("sys/class/nvme-subsystem/" + name)
		if err != nil {
			continue
		}
		s := Subsystem{Name: name, NQN: at.String("subsysnqn"), Type: at.String("subsystype"), IOPolicy: at.String("iopolicy"),
			Controllers: []Controller{}, Namespaces: namespaces(f, at)}
		for _, c := range controllers {
			if c.Subsystem == name || at.Has(c.Name) {
				c.Subsystem = name
				s.Controllers = append(s.Controllers, c)
				placed[c.Name] = true
				if dev, err := f.Device("sys/class/nvme/" + c.Name); err == nil {
					// A namespace that only one controller can have hangs below that, as all do without multipathing.
					s.Namespaces = append(s.Namespaces, namespaces(f, dev)...)
				}
			}
		}
		list = append(list, s)
	}
	for _, c := range controllers {
		if !placed[c.Name] { // it is being made, or taken away
			list = append(list, Subsystem{NQN: c.NQN, Controllers: []Controller{c}, Namespaces: []Namespace{}})
		}
	}
	slices.SortFunc(list, func(a, b Subsystem) int { return natural(a.Name, b.Name) })
	return list, nil
}

// Controllers reads all controllers, sorted by name.
func Controllers(f *sysfs.FS) ([]Controller, error) {
	names, err := f.Names("sys/class/nvme")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no NVMe in this kernel, or none loaded yet
	}
	if err != nil {
		return nil, fmt.Errorf("list NVMe controllers: %w", err)
	}
	var list []Controller
	for _, name := range names {
		if !controllerName.MatchString(name) {
			continue
		}
		c, err := ReadController(f, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Controller) int { return natural(a.Name, b.Name) })
	return list, nil
}

// ReadController reads one; an error wraps fs.ErrNotExist where there is none.
func ReadController(f *sysfs.FS, name string) (Controller, error) {
	at, err := f.Device("sys/class/nvme/" + name)
	if err != nil {
		return Controller{}, fmt.Errorf("NVMe controller %s: %w", name, err)
	}
	c := Controller{
		Name: name, State: State(at.String("state")), Transport: at.String("transport"), Type: at.String("cntrltype"),
		Host: Host{NQN: at.String("hostnqn"), ID: at.String("hostid")}, CntlID: int(number(at.String("cntlid"))),
		Model: at.String("model"), Serial: at.String("serial"), KeepAlive: at.String("kato"),
		CtrlLoss: at.String("ctrl_loss_tmo"), FastIOFail: at.String("fast_io_fail_tmo"), ReconnectDelay: at.String("reconnect_delay"),
		Legs: legs(f, at), Owner: owner(f, name),
	}
	c.NQN = at.String("subsysnqn")
	c.Target.Addr, c.HostAddr, c.HostIface, c.Source = parseAddress(at.String("address"))
	c.Subsystem = subsystemOf(f, at)
	return c, nil
}

// subsystemOf finds the subsystem by the link to the controller in it; "" while there is none.
func subsystemOf(f *sysfs.FS, at sysfs.Device) string {
	names, err := f.Names(at.Path)
	if err != nil {
		return ""
	}
	for _, n := range names { // since 6.? some kernels link back
		if strings.HasPrefix(n, "nvme-subsys") {
			return n
		}
	}
	return ""
}

// parseAddress reads "traddr=192.0.2.40,trsvcid=4420,host_traddr=…,host_iface=…,src_addr=…" (nvmf_get_address, nvme_tcp_get_address).
func parseAddress(text string) (to netip.AddrPort, from netip.Addr, iface string, source netip.Addr) {
	var addr netip.Addr
	var port uint64
	for field := range strings.SplitSeq(text, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch k {
		case "traddr":
			addr, _ = netip.ParseAddr(v) // a PCI address is none
		case "trsvcid":
			port, _ = strconv.ParseUint(v, 10, 16)
		case "host_traddr":
			from, _ = netip.ParseAddr(v)
		case "host_iface":
			iface = v
		case "src_addr":
			source, _ = netip.ParseAddr(v)
		}
	}
	if addr.IsValid() {
		to = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return to, from, iface, source
}

func legs(f *sysfs.FS, at sysfs.Device) []Leg {
	var list []Leg
	names, _ := f.Names(at.Path)
	for _, n := range names {
		if !legName.MatchString(n) {
			continue
		}
		list = append(list, Leg{Name: n, NSID: int(number(at.String(n + "/nsid"))),
			ANAState: at.String(n + "/ana_state"), ANAGroup: int(number(at.String(n + "/ana_grpid")))})
	}
	return list
}

func namespaces(f *sysfs.FS, at sysfs.Device) []Namespace {
	list := []Namespace{}
	names, _ := f.Names(at.Path)
	for _, n := range names {
		if !namespaceName.MatchString(n) || at.String(n+"/hidden") == "1" {
			continue
		}
		list = append(list, Namespace{
			Name: n, NSID: int(number(at.String(n + "/nsid"))), WWID: at.String(n + "/wwid"), UUID: at.String(n + "/uuid"),
			NGUID: at.String(n + "/nguid"), EUI: strings.ReplaceAll(at.String(n+"/eui"), " ", ""),
			Bytes: number(at.String(n+"/size")) * 512, ReadOnly: at.String(n+"/ro") == "1",
		})
	}
	slices.SortFunc(list, func(a, b Namespace) int { return a.NSID - b.NSID })
	return list
}

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// natural orders nvme2 before nvme10.
func natural(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
