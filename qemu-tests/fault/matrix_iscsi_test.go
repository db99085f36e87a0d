package fault

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"initd/hw/iscsi/iscsitest"
	"initd/qemu-tests/peer/lio"
	"initd/qemu-tests/room"
	"initd/qemu-tests/vm"
)

const (
	initiator   = "iqn.2026-01.net.example:store"
	rightSecret = "a secret of the store's"
	otherSecret = "another secret altogether"
	proofSecret = "a secret of the target's"
)

func iqn(id string) string { return "iqn.2026-01.net.example:" + id }

// iscsiTarget adds a target with one small LUN 0, unless t says otherwise.
func (r *fabricRoom) iscsiTarget(id string, t lio.Target) {
	t.IQN = iqn(id)
	if t.Portals == nil {
		t.Portals = []string{targetsV4 + ":3260"}
	}
	if t.LUNs == nil {
		t.LUNs = []lio.LUN{{MiB: 1}}
	}
	r.targets.Targets = append(r.targets.Targets, t)
}

// login is the line of the file that wants a target. Nobody counts as degraded for waiting while an emulated machine is at work.
func (r *fabricRoom) login(id, portals, more string) {
	r.iscsi += fmt.Sprintf("    - {name: %s, target: %q, portals: [%s], initiator: %q, wait: 100s, options: {login-timeout: 20s}%s}\n", id, iqn(id), portals, initiator, more)
}

func chap(secret, mutual string) string {
	out := ", chap: {user: store, secret: {file: " + secret + "}"
	if mutual != "" {
		out += ", mutual: {file: " + mutual + "}"
	}
	return out + "}"
}

// secrets are the files that the lines name.
func (r *fabricRoom) secrets() {
	for name, text := range map[string]string{
		"right.chap": rightSecret, "other.chap": otherSecret, "right.dhchap": rightDHCHAP, "other.dhchap": otherDHCHAP,
	} {
		r.Identity[name] = []byte(text + "\n")
	}
	r.Files["open.chap"] = []byte(rightSecret)
}

// iscsiFaults adds what each fault of a target needs to the room.
func iscsiFaults() map[string]func(r *fabricRoom) {
	allowed := func(auth lio.Auth) []lio.Initiator { return []lio.Initiator{{Name: initiator, Auth: &auth}} }
	one := lio.Auth{User: "store", Password: rightSecret}
	// atPortal has a portal of its own on which a script runs, until it is mended.
	atPortal := func(id string, port int, script *iscsitest.Script) func(*fabricRoom) {
		return func(r *fabricRoom) {
			at := fmt.Sprintf("%s:%d", targetsV4, port)
			r.iscsiTarget(id, lio.Target{})
			r.login(id, `"`+at+`"`, "")
			if script != nil {
				r.targets.Scripted = append(r.targets.Scripted, lio.Scripted{Listen: at, Script: *script})
			}
			r.iscsiMends(id, lio.Change{Do: "serve", Portal: at, Value: targetsV4 + ":3260"})
		}
	}
	return map[string]func(r *fabricRoom){
		"chap-wrong": func(r *fabricRoom) {
			r.iscsiTarget("chap-wrong", lio.Target{Initiators: allowed(one)})
			r.login("chap-wrong", targetsV4, chap("/etc/initd/other.chap", ""))
			r.iscsiMends("chap-wrong", lio.Change{Do: "password", Target: iqn("chap-wrong"), Initiator: initiator, Value: otherSecret})
		},
		"chap-mutual": func(r *fabricRoom) {
			r.iscsiTarget("chap-mutual", lio.Target{Initiators: allowed(lio.Auth{User: "store", Password: rightSecret, MutualUser: "targets", MutualPassword: proofSecret})})
			r.login("chap-mutual", targetsV4, chap("/etc/initd/right.chap", "/etc/initd/other.chap"))
			r.iscsiMends("chap-mutual", lio.Change{Do: "mutual-password", Target: iqn("chap-mutual"), Initiator: initiator, Value: otherSecret})
		},
		"chap-none": func(r *fabricRoom) {
			r.iscsiTarget("chap-none", lio.Target{Initiators: allowed(one)})
			r.login("chap-none", targetsV4, "")
			r.iscsiMends("chap-none", lio.Change{Do: "attribute", Target: iqn("chap-none"), Value: "authentication=0"})
		},
		"chap-file": func(r *fabricRoom) {
			r.iscsiTarget("chap-file", lio.Target{Initiators: allowed(one)})
			r.login("chap-file", targetsV4, chap("/etc/initd/gone.chap", ""))
			r.keys["iscsi/chap-file"] = rightSecret
		},
		"chap-file-mode": func(r *fabricRoom) {
			r.iscsiTarget("chap-file-mode", lio.Target{Initiators: allowed(one)})
			r.login("chap-file-mode", targetsV4, chap("/etc/open.chap", ""))
			r.keys["iscsi/chap-file-mode"] = rightSecret
		},
		"target-missing": func(r *fabricRoom) {
			r.iscsiTarget("target-missing", lio.Target{Absent: true})
			r.login("target-missing", targetsV4, "")
			r.iscsiMends("target-missing", lio.Change{Do: "add", Target: iqn("target-missing")})
		},
		"initiator-refused": func(r *fabricRoom) {
			r.iscsiTarget("initiator-refused", lio.Target{Initiators: []lio.Initiator{{Name: iqn("another")}}})
			r.login("initiator-refused", targetsV4, "")
			r.iscsiMends("initiator-refused", lio.Change{Do: "allow", Target: iqn("initiator-refused"), Initiator: initiator})
		},
		"target-not-found": atPortal("target-not-found", 3271, &iscsitest.Script{Status: 0x0203}),
		"too-many":         atPortal("too-many", 3272, &iscsitest.Script{Status: 0x0302}),
		"moved-nowhere":    atPortal("moved-nowhere", 3273, &iscsitest.Script{Redirect: targetsV4 + ":3999,1"}),
		"moved-around":     atPortal("moved-around", 3274, &iscsitest.Script{Redirect: targetsV4 + ":3274,1"}),
		"portal-refuses":   atPortal("portal-refuses", 3275, nil),
		"portal-silent":    atPortal("portal-silent", 3276, &iscsitest.Script{Silent: true}),
		"portal-hangs-up":  atPortal("portal-hangs-up", 3277, &iscsitest.Script{CloseAt: 1}),
		"portal-garbage":   atPortal("portal-garbage", 3278, &iscsitest.Script{Raw: []byte(strings.Repeat("no iSCSI at all, ", 20))}),
		"portal-drops": func(r *fabricRoom) {
			r.iscsiTarget("portal-drops", lio.Target{Portals: []string{droppedV4 + ":3260"}})
			r.login("portal-drops", droppedV4, "")
			r.dropUntil("portal-drops", r.Wire, vm.ToAddr(netip.MustParseAddr(droppedV4)))
		},
		"portal-no-carrier": func(r *fabricRoom) {
			r.links += "    - {name: fabric, match: {mac: \"" + pulledMAC + "\"}, addresses: [203.0.113.17/24]}\n"
			r.iscsi += fmt.Sprintf("    - {name: portal-no-carrier, target: %q, portals: [{address: %s, host-interface: fabric}], wait: 20s}\n", iqn("portal-no-carrier"), beyondV4)
		},
		"lun-missing": func(r *fabricRoom) {
			r.iscsiTarget("lun-missing", lio.Target{})
			r.login("lun-missing", targetsV4, ", luns: [{lun: 7}]")
			r.iscsiMends("lun-missing", lio.Change{Do: "lun-add", Target: iqn("lun-missing"), LUN: &lio.LUN{Number: 7, MiB: 1}})
		},
		"lun-other": func(r *fabricRoom) {
			second := targetsV4 + ":3261"
			r.iscsiTarget("lun-other", lio.Target{LUNs: []lio.LUN{{MiB: 1, Serial: "10ca1"}}})
			r.iscsiTarget("lun-other", lio.Target{Group: 2, Portals: []string{second}, LUNs: []lio.LUN{{MiB: 2, Serial: "10ca1"}}})
			r.login("lun-other", targetsV4+`, "`+second+`"`, ", min-paths: 2")
			r.iscsiMends("lun-other", lio.Change{Do: "lun-same", Target: iqn("lun-other"), Group: 2, LUN: &lio.LUN{Same: iqn("lun-other") + "/0"}})
			right := r.mend["lun-other"]
			r.mend["lun-other"] = func(t *testing.T, m *vm.VM) { // what the kernel has read of the wrong disk goes with its session
				right(t, m)
				r.logInAgain(t, m, "lun-other", second)
			}
		},
		"lun-read-only": func(r *fabricRoom) {
			r.iscsiTarget("lun-read-only", lio.Target{LUNs: []lio.LUN{{MiB: 8, Image: "/ext4.img", ReadOnly: true}}, Initiators: []lio.Initiator{{Name: initiator}}})
			r.login("lun-read-only", targetsV4, "")
			r.mounts += "  - {what: iscsi/lun-read-only/0, where: /srv/lun-read-only, type: ext4}\n"
		},
		"digest-refused": func(r *fabricRoom) {
			r.iscsiTarget("digest-refused", lio.Target{Parameters: map[string]string{"HeaderDigest": "None", "DataDigest": "None"}})
			r.iscsi += fmt.Sprintf("    - {name: digest-refused, target: %q, portals: [%s], initiator: %q, options: {header-digest: crc32c, data-digest: crc32c}}\n", iqn("digest-refused"), targetsV4, initiator)
			r.iscsiMends("digest-refused",
				lio.Change{Do: "parameter", Target: iqn("digest-refused"), Value: "HeaderDigest=CRC32C,None"},
				lio.Change{Do: "parameter", Target: iqn("digest-refused"), Value: "DataDigest=CRC32C,None"})
		},
		"paths-too-few": func(r *fabricRoom) {
			second := targetsV4 + ":3279"
			r.iscsiTarget("paths-too-few", lio.Target{})
			r.login("paths-too-few", targetsV4+`, "`+second+`"`, ", min-paths: 2")
			r.iscsiMends("paths-too-few", lio.Change{Do: "serve", Portal: second, Value: targetsV4 + ":3260"})
		},
	}
}

// logInAgain ends the session by one portal, as an operator would, and has it made anew.
func (r *fabricRoom) logInAgain(t *testing.T, m *vm.VM, id, portal string) {
	t.Helper()
	unit := "iscsi-path/" + id + "/" + portal
	seen := m.Events()
	for _, command := range []string{"iscsi logout " + iqn(id) + " " + portal, "retry " + unit} {
		if e := room.Hand(t, m, "run", "/usr/bin/initd", command); e.Field("status") != "0" {
			t.Fatalf("initd %s: %s", command, e.Line)
		}
	}
	m.WaitEventAfter(seen[len(seen)-1], "it is logged in to again", room.Unit(unit, "done"), vm.Guard)
}
