package fault

import (
	"fmt"
	"strings"

	"initd/qemu-tests/peer/nvmet"
)

// Secrets of DH-HMAC-CHAP: 32 bytes 0, 1, 2 …, and 32 ones, with their checksums.
const (
	rightDHCHAP = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:"
	otherDHCHAP = "DHHC-1:00:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQHMnzFi:"
)

// The ports of the subsystems by their numbers; the second and the third listen once they are mended.
const (
	portAll, portLate, portOther, portSecond, portPicky = 1, 2, 3, 4, 5
)

func nvmePorts() []nvmet.Port {
	var list []nvmet.Port
	for i := range 5 {
		list = append(list, nvmet.Port{ID: i + 1, Address: targetsV4, Service: fmt.Sprint(4420 + i)})
	}
	return list
}

func nqn(id string) string { return "nqn.2026-01.net.example:" + id }

// nvmeSubsystem adds a subsystem that can be reached at some ports.
func (r *fabricRoom) nvmeSubsystem(id string, s nvmet.Subsystem, ports ...int) {
	s.NQN = nqn(id)
	r.nvme.Subsystems = append(r.nvme.Subsystems, s)
	for _, p := range ports {
		r.nvme.Ports[p-1].Subsystems = append(r.nvme.Ports[p-1].Subsystems, s.NQN)
	}
}

// connect is the line of the file that wants a subsystem, as a host of its own.
func (r *fabricRoom) connect(id, more string) {
	r.subsystems += fmt.Sprintf("    - {name: %s, subsystem: %q, host-nqn: %q, host-id: %q, %s}\n", id, nqn(id), hostNQN(r.host(id)), r.host(id), more)
}

// host is the UUID of a host; each line has its own, because a key belongs to a host and not to what it connects.
func (*fabricRoom) host(id string) string {
	var n uint32
	for _, c := range []byte(id) {
		n = n*31 + uint32(c)
	}
	return fmt.Sprintf("%08x-0000-4000-8000-000000000001", n)
}

// Portals that do not answer are tried until the deadline; an answer that the kernel gives may take it a minute, in which it does nothing
// else.
const (
	portalDeadline = ", deadline: 20s"
	kernelDeadline = ", deadline: 100s"
)

func hostNQN(id string) string { return "nqn.2014-08.org.nvmexpress:uuid:" + id }

// nvmeFaults adds what each fault of a subsystem needs to the room.
func nvmeFaults() map[string]func(r *fabricRoom) {
	one := fmt.Sprintf("paths: [\"tcp://%s:4420\"]", targetsV4)
	at := func(ports ...int) string {
		var list []string
		for _, p := range ports {
			list = append(list, fmt.Sprintf("%q", fmt.Sprintf("tcp://%s:%d", targetsV4, p)))
		}
		return "paths: [" + strings.Join(list, ", ") + "]"
	}
	// authenticated is a subsystem for one host, which has a key.
	authenticated := func(id, file string, mend nvmet.Change) func(*fabricRoom) {
		return func(r *fabricRoom) {
			host := hostNQN(r.host(id))
			r.nvmeSubsystem(id, nvmet.Subsystem{Hosts: []nvmet.Host{{NQN: host, Key: rightDHCHAP, Hash: "hmac(sha256)", DHGroup: "null"}}}, portAll)
			r.connect(id, one+file+kernelDeadline)
			mend.Host = host
			r.nvmeMends(id, mend)
		}
	}
	// fake is a portal that behaves badly until it is told to speak.
	fake := func(id string, port int, mode string) func(*fabricRoom) {
		return func(r *fabricRoom) {
			listen := fmt.Sprintf("%s:%d", targetsV4, port)
			r.nvmeSubsystem(id, nvmet.Subsystem{}, portAll)
			r.connect(id, at(port)+portalDeadline)
			r.nvme.Fakes = append(r.nvme.Fakes, nvmet.Fake{Listen: listen, Mode: mode, To: targetsV4 + ":4420"})
			r.nvmeMends(id, nvmet.Change{Do: "speak", Listen: listen})
		}
	}
	return map[string]func(r *fabricRoom){
		"nvme-secret": authenticated("nvme-secret", ", dhchap: {secret: {file: /etc/initd/other.dhchap}}", nvmet.Change{Do: "key", Key: otherDHCHAP}),
		"nvme-unproved": authenticated("nvme-unproved", ", dhchap: {secret: {file: /etc/initd/right.dhchap}, controller-secret: {file: /etc/initd/other.dhchap}}",
			nvmet.Change{Do: "ctrl-key", Key: otherDHCHAP}),
		"nvme-no-secret": func(r *fabricRoom) {
			authenticated("nvme-no-secret", "", nvmet.Change{})(r)
			r.nvmeMends("nvme-no-secret", nvmet.Change{Do: "any-host", Subsystem: nqn("nvme-no-secret")})
		},
		"nvme-host": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-host", nvmet.Subsystem{Hosts: []nvmet.Host{{NQN: nqn("somebody")}}}, portAll)
			r.connect("nvme-host", one+kernelDeadline)
			r.nvmeMends("nvme-host", nvmet.Change{Do: "allow", Subsystem: nqn("nvme-host"), Host: hostNQN(r.host("nvme-host"))})
		},
		"nvme-missing": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-missing", nvmet.Subsystem{})
			r.connect("nvme-missing", one+kernelDeadline)
			r.nvmeMends("nvme-missing", nvmet.Change{Do: "link", Port: portAll, Subsystem: nqn("nvme-missing")})
		},
		"nvme-not-listed": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-not-listed", nvmet.Subsystem{Hosts: []nvmet.Host{{NQN: nqn("nobody")}}}, portPicky)
			r.connect("nvme-not-listed", fmt.Sprintf("discovery: [\"tcp://%s:4424\"]", targetsV4)+kernelDeadline)
			r.nvmeMends("nvme-not-listed", nvmet.Change{Do: "allow", Subsystem: nqn("nvme-not-listed"), Host: hostNQN(r.host("nvme-not-listed"))})
		},
		"nvme-busy": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-busy", nvmet.Subsystem{MaxCntlid: 1}, portAll, portSecond)
			r.connect("nvme-busy", at(4420, 4423)+", min-paths: 2"+portalDeadline)
			r.nvmeMends("nvme-busy", nvmet.Change{Do: "max-cntlid", Subsystem: nqn("nvme-busy"), Number: 200})
		},
		"nvme-refuses": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-refuses", nvmet.Subsystem{})
			r.connect("nvme-refuses", at(4421)+portalDeadline)
			r.nvmeMends("nvme-refuses", nvmet.Change{Do: "link", Port: portLate, Subsystem: nqn("nvme-refuses")})
		},
		"nvme-paths": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-paths", nvmet.Subsystem{}, portAll)
			r.connect("nvme-paths", at(4420, 4422)+", min-paths: 2"+portalDeadline)
			r.nvmeMends("nvme-paths", nvmet.Change{Do: "link", Port: portOther, Subsystem: nqn("nvme-paths")})
		},
		"nvme-silent":   fake("nvme-silent", 4431, "silent"),
		"nvme-hangs-up": fake("nvme-hangs-up", 4432, "closing"),
		"nvme-garbage":  fake("nvme-garbage", 4433, "garbage"),
		"nvme-tls": func(r *fabricRoom) {
			r.nvmeSubsystem("nvme-tls", nvmet.Subsystem{}, portAll)
			r.connect("nvme-tls", one+", tls: {}"+kernelDeadline)
		},
	}
}
