package scenario

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/network"
	"initd/qemu-tests/peer/pki"
	"initd/qemu-tests/vm"
)

// site is a room with one wire in it: an appliance called store, and a peer
// with key servers. Tests change it before they call boot.
type site struct {
	t    *testing.T
	wire *vm.Wire
	ca   *pki.CA

	// appliance is the text of the store's file; files lie beside it.
	appliance string
	files     map[string][]byte
	// identity is what the second archive puts into /etc/initd.
	identity map[string][]byte
	name     string // of the machines, where a test has two rooms
	peer     config.Config
	store    *vm.VM
	peerVM   *vm.VM
	secrets  []string // every key of the run, in hex
}

// The addresses of the room. kmsA and kmsB live on the peer.
const (
	storeMAC = "52:54:00:00:01:01"
	peerMAC  = "52:54:00:00:01:02"
	storeV4  = "192.0.2.17/24"
	kmsAV4   = "192.0.2.21"
	kmsBV4   = "192.0.2.22"
	storeV6  = "2001:db8:1::17/64"
	kmsAV6   = "2001:db8:1::21"
	kmsBV6   = "2001:db8:1::22"
)

// newSite makes a room with two good key servers, on addresses a and b.
// A second room of one test has a name of its own.
func newSite(t *testing.T, a, b string, name ...string) *site {
	t.Helper()
	suffix := strings.Join(name, "")
	s := &site{t: t, name: suffix, wire: vm.NewWire(t, "room"+suffix), files: map[string][]byte{}, identity: map[string][]byte{}}
	var err error
	if s.ca, err = pki.NewCA("test authority", pki.Options{}); err != nil {
		t.Fatal(err)
	}
	client, err := s.ca.Client(pki.Options{}, "store")
	if err != nil {
		t.Fatal(err)
	}
	s.identity["pki/ca.pem"], s.identity["pki/store.pem"], s.identity["pki/store.key"] = s.ca.PEM, client.Cert, client.Key
	bits := "/24"
	if len(a) > 0 && a[0] == '2' && a[1] == '0' && a[2] == '0' {
		bits = "/64"
	}
	s.peer.Links = []network.Link{{MAC: peerMAC, Addresses: []string{a + bits, b + bits}}}
	s.addServer("kms-a", a, keyserver.KindKMIPGo)
	s.addServer("kms-b", b, keyserver.KindBytes)
	return s
}

func (s *site) addServer(name, address, kind string) {
	s.t.Helper()
	cert, err := s.ca.Server(pki.Options{}, address, name+".example.net")
	if err != nil {
		s.t.Fatal(err)
	}
	host := address
	if len(host) > 4 && host[4] == ':' {
		host = "[" + host + "]"
	}
	s.peer.KeyServers = append(s.peer.KeyServers, keyserver.Config{
		Name: name, Kind: kind, Listen: host + ":5696",
		CA: string(s.ca.PEM), Cert: string(cert.Cert), Key: string(cert.Key),
	})
}

// key makes a random key of 32 bytes that every server knows as store/NAME.
func (s *site) key(name string) []byte {
	s.t.Helper()
	k := make([]byte, 32)
	if _, err := rand.Read(k); err != nil {
		s.t.Fatal(err)
	}
	s.secrets = append(s.secrets, hex.EncodeToString(k))
	for i := range s.peer.KeyServers {
		srv := &s.peer.KeyServers[i]
		srv.Objects = append(srv.Objects, keyserver.Object{ID: "id-" + name, Name: "store/" + name, Type: "SymmetricKey", Value: hex.EncodeToString(k)})
	}
	return k
}

// image makes the store's initramfs with the shipped initd-image.
func (s *site) image() string {
	s.t.Helper()
	dir := s.t.TempDir()
	file := filepath.Join(dir, "appliance.yaml")
	for name, b := range s.files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(s.appliance), 0o644); err != nil {
		s.t.Fatal(err)
	}
	modules, err := filepath.Glob(filepath.Join(vm.KernelFile(s.t, "lib/modules"), "*"))
	if err != nil || len(modules) != 1 {
		s.t.Fatalf("kernel modules: %v, %v; run make kernel", modules, err)
	}
	out := filepath.Join(dir, "store.img")
	vm.Shipped(s.t, "init")
	vm.Shipped(s.t, "initd")
	cmd := exec.Command(vm.Shipped(s.t, "initd-image"), "initramfs", "-f", file, "-o", out,
		"--kernel-dir", modules[0], "--drivers", "virtio", "--cache", filepath.Join(vm.Root(s.t), "out", "cache", "debs"))
	if text, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("initd-image: %v\n%s", err, text)
	}
	return out
}

// overlay is the second archive: identity, and nothing else.
func (s *site) overlay() string {
	s.t.Helper()
	o := vm.NewOverlay(s.t)
	for name, b := range s.identity {
		o.Bytes("/etc/initd/"+name, b, 0o600)
	}
	return o.Write("identity" + s.name)
}

// startPeer boots the peer and waits until its servers listen.
func (s *site) startPeer() *vm.VM {
	s.t.Helper()
	image := vm.NewImage(s.t).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net").JSON(config.Path, s.peer).Write("peer" + s.name)
	s.peerVM = vm.New(s.t, vm.Name("peer"+s.name), vm.Memory(256), vm.CPUs(1)).Initramfs(image).Wire(s.wire, peerMAC).Start()
	s.peerVM.WaitEvent("the peer's servers listen", vm.Is("ready"), vm.Guard)
	return s.peerVM
}

// newStore makes the store, not yet started.
func (s *site) newStore(disks ...*vm.Disk) *vm.VM {
	s.t.Helper()
	s.store = vm.New(s.t, vm.Name("store"+s.name), vm.Memory(1024)).
		Initramfs(s.image(), s.overlay()).Disk(disks...).Wire(s.wire, storeMAC).
		Append("initd.events=/dev/ttyS1", "init_on_free=1")
	return s.store
}

// gets counts how often the key servers gave a key out.
func (s *site) gets(object string) int {
	n := 0
	for _, e := range s.peerVM.Events() {
		if vm.Is("kmip", "op", "get")(e) && (object == "" || e.Field("object") == object) {
			n++
		}
	}
	return n
}

// unit matches the event by which a unit comes into a state.
func unit(id, state string) func(vm.Event) bool { return vm.Is("unit", "unit", id, "state", state) }
