package scenario

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	breport "initd/boot/report"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

// wrongServer is one key server of its own group, and the volumes whose keys it has.
type wrongServer struct {
	name    string
	kind    string
	cert    pki.Options
	other   bool // its certificate is of another authority
	faults  keyserver.Faults
	b       keyserver.Behaviour
	change  func([]keyserver.Object) []keyserver.Object
	volumes []string // default: one of the server's name

	code string // of the error; empty: the keys come
	says string // what the error's text has to have
}

func (w wrongServer) keys() []string {
	if len(w.volumes) > 0 {
		return w.volumes
	}
	return []string{w.name}
}

func wrongServers() []wrongServer {
	return []wrongServer{
		{name: "good", kind: keyserver.KindKMIPGo},
		{name: "other-ca", kind: keyserver.KindKMIPGo, other: true, code: "KMIP-TLS-CA", says: "not signed by a configured CA"},
		{name: "expired", kind: keyserver.KindBytes, cert: pki.Expired(), code: "KMIP-TLS-EXPIRED", says: "certificate has expired on"},
		{name: "not-yet", kind: keyserver.KindKMIPGo, cert: pki.NotYet(), code: "KMIP-TLS-NOT-YET", says: "certificate is not yet valid"},
		{name: "refuses", kind: keyserver.KindBytes, faults: keyserver.Faults{Refuse: keyserver.RefuseAlert}, code: "KMIP-TLS-CLIENT-REFUSED", says: "refused our client certificate"},
		{name: "old", kind: keyserver.KindBytes, faults: keyserver.Faults{BareHello: "1.0"}, code: "KMIP-TLS-VERSION", says: "TLS 1.0, which is too old"},
		{name: "babbles", kind: keyserver.KindBytes, faults: keyserver.Faults{Garbage: keyserver.GarbageText}, code: "KMIP-PROTOCOL", says: "the answer is not KMIP"},
		{name: "empty", kind: keyserver.KindKMIPGo, change: func([]keyserver.Object) []keyserver.Object { return nil }, code: "KMIP-NOT-FOUND", says: "no object matches store/empty"},
		{name: "two", kind: keyserver.KindBytes, change: func(l []keyserver.Object) []keyserver.Object {
			twin := l[0]
			twin.ID = "twin"
			return append(l, twin)
		}, code: "KMIP-AMBIGUOUS", says: "2 objects match store/two"},
		{name: "revoked", kind: keyserver.KindKMIPGo, change: func(l []keyserver.Object) []keyserver.Object {
			l[0].State = "Compromised"
			return l
		}, code: "KMIP-STATE", says: "is compromised"},
		{name: "muddles", kind: keyserver.KindBytes, faults: keyserver.Faults{Muddle: keyserver.MuddlePayloads}, volumes: []string{"left", "right"}},
		{name: "resets", kind: keyserver.KindKMIPGo, faults: keyserver.Faults{Reset: true, Times: 1}},
	}
}

// slowServer answers one byte a second.
const slowServer = "drips"

// Twelve key servers, each with its own volumes, and most of them wrong, each in another way.
//
//   - Those that are well, or can be helped, give their keys at the first attempt: a torn answer and one whose parts are mixed up
//     cost no key. The volume of the one that is well is opened and mounted.
//   - Each of the others is the error of its own unit: with its code, its server, what to do and the command that helps.
//   - One answers a byte a second. It is given up and tried again; nobody waits for it.
func TestManyKeyServersAreWrongAtOnce(t *testing.T) {
	s := room.New(t, room.KMSAV4, room.KMSBV4)
	s.Peer.KeyServers = nil
	list := append(wrongServers(), wrongServer{name: slowServer, kind: keyserver.KindKMIPGo, faults: keyserver.Faults{From: 1, Drip: 1}})
	wrongAppliance(s, list)
	disk := vm.NewDisk(t, "good", 48*vm.MiB, vm.LUKS{Keys: [][]byte{s.Key("good")}, Content: vm.Ext4{Label: "good"}})
	for i, w := range list {
		s.Peer.KeyServers = append(s.Peer.KeyServers, w.config(t, s, i))
	}
	s.StartPeer()
	store := s.NewStore(disk).Start()

	slow := store.WaitEvent("the slow server is given up for now", says("key/"+slowServer, `only \d+ bytes of an answer came within`), vm.Guard)
	store.WaitEvent("the good volume is mounted", room.Unit("mount/srv/good", "done"), vm.Guard)
	for _, w := range list[:len(list)-1] {
		state := "done"
		if w.code != "" {
			state = "degraded"
		}
		for _, k := range w.keys() {
			store.WaitEvent("key/"+k+" is "+state, room.Unit("key/"+k, state), vm.Guard)
		}
	}
	// Whatever came before the slow server was given up for the first time did not wait for it.
	var before []breport.Event
	for _, e := range room.Told(t, store) {
		if e.Seq < room.Decode(t, slow).Seq {
			before = append(before, e)
		}
	}
	r := breport.Fold(before)
	for _, w := range list[:len(list)-1] {
		for _, k := range w.keys() {
			w.check(t, r, "key/"+k)
		}
	}
}

// wrongAppliance is an appliance with a group of servers for each row.
func wrongAppliance(s *room.Room, list []wrongServer) {
	servers, volumes := "", ""
	for i, w := range list {
		servers += fmt.Sprintf("    - {name: kms-%s, address: \"%s:%d\", group: %s}\n", w.name, room.KMSAV4, 5700+i, w.name)
		for _, k := range w.keys() {
			volumes += fmt.Sprintf("    - {name: %s, device: id/virtio-%s, key: {kmip: {servers: %s}}}\n", k, k, w.name)
		}
	}
	s.Appliance = strings.NewReplacer("SERVERS\n", servers, "    - {name: tank0, device: id/virtio-tank0, key: kmip}\n", volumes, "tank0", "good").Replace(oneVolume)
}

func (w wrongServer) config(t *testing.T, s *room.Room, i int) keyserver.Config {
	t.Helper()
	ca := s.CA
	if w.other {
		var err error
		if ca, err = pki.NewCA("another authority", pki.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := ca.Server(w.cert, room.KMSAV4)
	if err != nil {
		t.Fatal(err)
	}
	var objects []keyserver.Object
	for _, k := range w.keys() {
		value := hex.EncodeToString([]byte("the key of " + k + ", and of no other"))
		if k == "good" {
			value = s.Secrets[0]
		}
		objects = append(objects, keyserver.Object{ID: "id-" + k, Name: "store/" + k, Value: value})
	}
	if w.change != nil {
		objects = w.change(objects)
	}
	return keyserver.Config{
		Name: "kms-" + w.name, Kind: w.kind, Listen: fmt.Sprintf("%s:%d", room.KMSAV4, 5700+i),
		CA: string(s.CA.PEM), Cert: string(pair.Cert), Key: string(pair.Key),
		Behaviour: w.b, Faults: w.faults, Objects: objects,
	}
}

// check compares what the report says of a key with what is wrong with its server.
func (w wrongServer) check(t *testing.T, r *breport.Report, id string) {
	t.Helper()
	u := r.Unit(id)
	if u == nil {
		t.Fatalf("%s is not in the report", id)
	}
	if w.code == "" {
		if !u.State.OK() || u.Attempts != 1 {
			t.Errorf("%s is %s after %d attempts (%v), want it at the first", id, u.State, u.Attempts, u.LastError)
		}
		return
	}
	if u.LastError == nil {
		t.Errorf("%s is %s and has no error", id, u.State)
		return
	}
	type facts struct{ State, Code, Server, Object string }
	want := facts{"degraded", w.code, "kms-" + w.name, "store/" + w.name}
	if diff := cmp.Diff(want, facts{string(u.State), u.LastError.Code, u.LastError.Server, u.LastError.Object}); diff != "" {
		t.Errorf("%s (-want +got):\n%s", id, diff)
	}
	if !strings.Contains(u.LastError.Text, w.says) || u.LastError.Hint == "" {
		t.Errorf("%s: %q, and what to do is %q; want %q in it, and something to do", id, u.LastError.Text, u.LastError.Hint, w.says)
	}
	if want := "initd keys unlock " + w.name; u.Next != want {
		t.Errorf("%s: the command that helps is %q, want %q", id, u.Next, want)
	}
}
