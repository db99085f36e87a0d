// Package room is a room with one wire in it, for tests that boot the shipped programs: an appliance called store, and a
// peer with key servers.
//
// It owns the addresses, the authority and the keys of a run, the store's image and identity, and the hands: the service
// by which a test does something in the running machine. It never says what a test expects of the store.
package room

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
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

// Room is one; tests change it before they boot its machines.
type Room struct {
	T  testing.TB
	CA *pki.CA

	Wire *vm.Wire
	// Appliance is the text of the store's file; Files lie beside it.
	Appliance string
	Files     map[string][]byte
	// Identity is what the second archive puts into /etc/initd.
	Identity map[string][]byte
	// Over are changes to the second archive, made after the identity.
	Over    []func(*vm.Image)
	Options []vm.Option // of the store
	name    string      // of the machines, where a test has two rooms
	Peer    config.Config
	Store   *vm.VM   // set by NewStore
	PeerVM  *vm.VM   // set by StartPeer
	Secrets []string // every key of the run, in hex

	image, imageOf string // the last that was made, and of which appliance
	stores         int
}

// The addresses of the room. kmsA and kmsB live on the peer.
const (
	StoreMAC = "52:54:00:00:01:01"
	PeerMAC  = "52:54:00:00:01:02"
	StoreV4  = "192.0.2.17/24"
	KMSAV4   = "192.0.2.21"
	KMSBV4   = "192.0.2.22"
	StoreV6  = "2001:db8:1::17/64"
	KMSAV6   = "2001:db8:1::21"
	KMSBV6   = "2001:db8:1::22"
)

// New makes a room with two good key servers, on addresses a and b.
// A second room of one test has a name of its own.
func New(t testing.TB, a, b string, name ...string) *Room {
	t.Helper()
	suffix := strings.Join(name, "")
	s := &Room{T: t, name: suffix, Wire: vm.NewWire(t, "room"+suffix), Files: map[string][]byte{}, Identity: map[string][]byte{}}
	var err error
	if s.CA, err = pki.NewCA("test authority", pki.Options{}); err != nil {
		t.Fatal(err)
	}
	client, err := s.CA.Client(pki.Options{}, "store")
	if err != nil {
		t.Fatal(err)
	}
	s.Identity["pki/ca.pem"], s.Identity["pki/store.pem"], s.Identity["pki/store.key"] = s.CA.PEM, client.Cert, client.Key
	bits := "/24"
	if len(a) > 0 && a[0] == '2' && a[1] == '0' && a[2] == '0' {
		bits = "/64"
	}
	s.Peer.Links = []network.Link{{MAC: PeerMAC, Addresses: []string{a + bits, b + bits}}}
	s.AddServer("kms-a", a, keyserver.KindKMIPGo)
	s.AddServer("kms-b", b, keyserver.KindBytes)
	return s
}

// AddServer adds a key server of one of keyserver's kinds.
func (s *Room) AddServer(name, address, kind string) {
	s.T.Helper()
	cert, err := s.CA.Server(pki.Options{}, address, name+".example.net")
	if err != nil {
		s.T.Fatal(err)
	}
	host := address
	if len(host) > 4 && host[4] == ':' {
		host = "[" + host + "]"
	}
	s.Peer.KeyServers = append(s.Peer.KeyServers, keyserver.Config{
		Name: name, Kind: kind, Listen: host + ":5696",
		CA: string(s.CA.PEM), Cert: string(cert.Cert), Key: string(cert.Key),
	})
}

// Key makes a random key of 32 bytes that every server knows as store/NAME.
func (s *Room) Key(name string) []byte {
	s.T.Helper()
	k := make([]byte, 32)
	if _, err := rand.Read(k); err != nil {
		s.T.Fatal(err)
	}
	s.Secrets = append(s.Secrets, hex.EncodeToString(k))
	for i := range s.Peer.KeyServers {
		srv := &s.Peer.KeyServers[i]
		srv.Objects = append(srv.Objects, keyserver.Object{ID: "id-" + name, Name: "store/" + name, Type: "SymmetricKey", Value: hex.EncodeToString(k)})
	}
	return k
}

// Image makes the store's initramfs with the shipped initd-image.
func (s *Room) Image() string {
	s.T.Helper()
	dir := s.T.TempDir()
	file := filepath.Join(dir, "appliance.yaml")
	for name, b := range s.Files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			s.T.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(s.Appliance), 0o644); err != nil {
		s.T.Fatal(err)
	}
	modules, err := filepath.Glob(filepath.Join(vm.KernelFile(s.T, "lib/modules"), "*"))
	if err != nil || len(modules) != 1 {
		s.T.Fatalf("kernel modules: %v, %v; run make kernel", modules, err)
	}
	out := filepath.Join(dir, "store.img")
	vm.Shipped(s.T, "init")
	vm.Shipped(s.T, "initd")
	cmd := exec.Command(vm.Shipped(s.T, "initd-image"), "initramfs", "-f", file, "-o", out,
		"--kernel-dir", modules[0], "--drivers", "virtio", "--cache", filepath.Join(vm.Root(s.T), "out", "cache", "debs"))
	if text, err := cmd.CombinedOutput(); err != nil {
		s.T.Fatalf("initd-image: %v\n%s", err, text)
	}
	return out
}

// Overlay is the second archive: identity, and nothing else.
func (s *Room) Overlay() string {
	s.T.Helper()
	o := vm.NewOverlay(s.T)
	for name, b := range s.Identity {
		o.Bytes("/etc/initd/"+name, b, 0o600)
	}
	for _, change := range s.Over {
		change(o)
	}
	return o.Write("identity" + s.name)
}

// StartPeer boots the peer and waits until its servers listen.
func (s *Room) StartPeer() *vm.VM {
	s.T.Helper()
	image := vm.NewImage(s.T).GoProgram("/init", "./qemu-tests/peer").Modules("virtio_net").JSON(config.Path, s.Peer).Write("peer" + s.name)
	s.PeerVM = vm.New(s.T, vm.Name("peer"+s.name), vm.Memory(256), vm.CPUs(1)).Initramfs(image).Wire(s.Wire, PeerMAC).Start()
	s.PeerVM.WaitEvent("the peer's servers listen", vm.Is("ready"), vm.Guard)
	return s.PeerVM
}

// Change tells the peer to make a fault, or to end one, and waits until it has.
func (s *Room) Change(c config.Command) {
	s.T.Helper()
	events := s.PeerVM.Events()
	s.PeerVM.Tell(c)
	e := s.PeerVM.WaitEventAfter(events[len(events)-1], "the peer changes", vm.Is("done", "do", c.Do), vm.Guard)
	if why := e.Field("error"); why != "" {
		s.T.Fatalf("%+v: %s", c, why)
	}
}

// NewStore makes the store, not yet started. A second one has the same image,
// and an identity as it is to be then.
func (s *Room) NewStore(disks ...*vm.Disk) *vm.VM {
	s.T.Helper()
	if s.image == "" || s.imageOf != s.Appliance {
		s.image, s.imageOf = s.Image(), s.Appliance
	}
	name := "store" + s.name
	if s.stores++; s.stores > 1 {
		name = fmt.Sprintf("%s-%d", name, s.stores)
	}
	s.Store = vm.New(s.T, append([]vm.Option{vm.Name(name), vm.Memory(1024)}, s.Options...)...).
		Initramfs(s.image, s.Overlay()).Disk(disks...).Wire(s.Wire, StoreMAC).
		Append("initd.events=/dev/ttyS1", "init_on_free=1")
	return s.Store
}

// Gets counts how often the key servers gave a key out.
func (s *Room) Gets(object string) int {
	n := 0
	for _, e := range s.PeerVM.Events() {
		if vm.Is("kmip", "op", "get")(e) && (object == "" || e.Field("object") == object) {
			n++
		}
	}
	return n
}
