package nvmeof

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
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

// The kernel's names: nvme0 is a controller, nvme0n1 a namespace, nvme0c1n1 one controller's way to it. Every start of the program
// would compile patterns for them.
func isController(name string) bool { return shape(name) == "nvme#" }
func isNamespace(name string) bool  { return shape(name) == "nvme#n#" }
func isLeg(name string) bool        { return shape(name) == "nvme#c#n#" }

// shape is a name with each of its numbers as a #.
func shape(name string) string {
	var out []byte
	for _, c := range []byte(name) {
		switch digit := '0' <= c && c <= '9'; {
		case !digit && c != '#':
			out = append(out, c)
		case !digit: // else it would pass for a number
			return ""
		case len(out) == 0 || out[len(out)-1] != '#':
			out = append(out, '#')
		}
	}
	return string(out)
}

// Read reads every subsystem with its controllers and namespaces, those of PCI devices too, sorted by name. What vanishes
// meanwhile is left out.
func Read(f *sysfs.FS) ([]Subsystem, error) {
	names, err := f.Names("sys/class/nvme-subsystem")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list NVMe subsystems: %w", err)
	}
	var list []Subsystem
	placed := map[string]bool{}
	for _, name := range names {
		s, ok := readSubsystem(f, name)
		if !ok {
			continue
		}
		for _, c := range s.Controllers {
			placed[c.Name] = true
		}
		list = append(list, s)
	}
	all, err := controllerNames(f)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if placed[name] {
			continue
		}
		if c, err := ReadController(f, name); err == nil { // it is being made, or taken away
			list = append(list, Subsystem{NQN: c.NQN, Controllers: []Controller{c}, Namespaces: []Namespace{}})
		}
	}
	slices.SortFunc(list, func(a, b Subsystem) int { return natural(a.Name, b.Name) })
	return list, nil
}

func readSubsystem(f *sysfs.FS, name string) (Subsystem, bool) {
	dir := follow(f, "sys/class/nvme-subsystem/"+name)
	inside, err := f.Names(dir)
	if err != nil {
		return Subsystem{}, false
	}
	s := Subsystem{Name: name, NQN: attribute(f, dir, "subsysnqn"), Type: attribute(f, dir, "subsystype"), IOPolicy: attribute(f, dir, "iopolicy"),
		Controllers: []Controller{}, Namespaces: namespaces(f, dir, inside)}
	for _, n := range inside {
		if !isController(n) {
			continue
		}
		c, err := ReadController(f, n)
		if err != nil {
			continue
		}
		c.Subsystem = name
		s.Controllers = append(s.Controllers, c)
		// A namespace that only one controller can have hangs below that, as all do without multipathing.
		own := follow(f, "sys/class/nvme/"+n)
		if names, err := f.Names(own); err == nil {
			s.Namespaces = append(s.Namespaces, namespaces(f, own, names)...)
		}
	}
	slices.SortFunc(s.Controllers, func(a, b Controller) int { return natural(a.Name, b.Name) })
	return s, true
}

// follow gives where a link of a class leads, so that it is followed once and not for each attribute.
func follow(f *sysfs.FS, link string) string {
	to, err := f.Link(link)
	if err != nil {
		return link
	}
	return path.Join(path.Dir(link), to)
}

// attribute is the text of one, "" where there is none.
func attribute(f *sysfs.FS, dir, name string) string {
	text, err := f.String(dir + "/" + name)
	if err != nil {
		return ""
	}
	return text
}

func controllerNames(f *sysfs.FS) ([]string, error) {
	names, err := f.Names("sys/class/nvme")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no NVMe in this kernel, or none loaded yet
	}
	if err != nil {
		return nil, fmt.Errorf("list NVMe controllers: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !isController(n) })
	slices.SortFunc(names, natural)
	return names, nil
}

// Connections reads all controllers as far as ReadConnection does, sorted by name.
func Connections(f *sysfs.FS) ([]Controller, error) { return each(f, ReadConnection) }

// Controllers reads all controllers, sorted by name.
func Controllers(f *sysfs.FS) ([]Controller, error) { return each(f, ReadController) }

func each(f *sysfs.FS, read func(*sysfs.FS, string) (Controller, error)) ([]Controller, error) {
	names, err := controllerNames(f)
	if err != nil {
		return nil, err
	}
	var list []Controller
	for _, name := range names {
		c, err := read(f, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// ReadConnection reads of a controller what tells connections apart, and their state; an error wraps fs.ErrNotExist where
// there is none.
func ReadConnection(f *sysfs.FS, name string) (Controller, error) {
	return readConnection(f, name, follow(f, "sys/class/nvme/"+name))
}

func readConnection(f *sysfs.FS, name, dir string) (Controller, error) {
	state, err := f.String(dir + "/state")
	if err != nil {
		return Controller{}, fmt.Errorf("NVMe controller %s: %w", name, err)
	}
	c := Controller{Name: name, State: State(state), Transport: attribute(f, dir, "transport"), Host: Host{NQN: attribute(f, dir, "hostnqn")}, Owner: owner(f, name)}
	c.NQN = attribute(f, dir, "subsysnqn")
	c.Target.Addr, c.HostAddr, c.HostIface, c.Source = parseAddress(attribute(f, dir, "address"))
	return c, nil
}

// ReadController reads all of one, but for its Subsystem; an error wraps fs.ErrNotExist where there is none.
func ReadController(f *sysfs.FS, name string) (Controller, error) {
	dir := follow(f, "sys/class/nvme/"+name)
	c, err := readConnection(f, name, dir)
	if err != nil {
		return c, err
	}
	text := func(name string) string { return attribute(f, dir, name) }
	c.Type, c.Host.ID, c.CntlID, c.Model, c.Serial = text("cntrltype"), text("hostid"), int(number(text("cntlid"))), text("model"), text("serial")
	c.KeepAlive, c.CtrlLoss, c.FastIOFail, c.ReconnectDelay = text("kato"), text("ctrl_loss_tmo"), text("fast_io_fail_tmo"), text("reconnect_delay")
	c.Legs = legs(f, dir)
	return c, nil
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

func legs(f *sysfs.FS, dir string) []Leg {
	var list []Leg
	names, err := f.Names(dir)
	if err != nil {
		return nil
	}
	for _, n := range names {
		if !isLeg(n) {
			continue
		}
		list = append(list, Leg{Name: n, NSID: int(number(attribute(f, dir, n+"/nsid"))),
			ANAState: attribute(f, dir, n+"/ana_state"), ANAGroup: int(number(attribute(f, dir, n+"/ana_grpid")))})
	}
	return list
}

func namespaces(f *sysfs.FS, dir string, names []string) []Namespace {
	list := []Namespace{}
	for _, n := range names {
		if !isNamespace(n) || attribute(f, dir, n+"/hidden") == "1" {
			continue
		}
		text := func(name string) string { return attribute(f, dir, n+"/"+name) }
		list = append(list, Namespace{
			Name: n, NSID: int(number(text("nsid"))), WWID: text("wwid"), UUID: text("uuid"),
			NGUID: text("nguid"), EUI: strings.ReplaceAll(text("eui"), " ", ""),
			Bytes: number(text("size")) * 512, ReadOnly: text("ro") == "1",
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
