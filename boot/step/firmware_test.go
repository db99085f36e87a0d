package step

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/hw/firmware"
	"initd/tests/golden"
)

// tables are hw/firmware's captures.
func tables(t *testing.T, names ...string) []appliance.Firmware {
	t.Helper()
	var list []firmware.Table
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join("..", "..", "hw", "firmware", "testdata", n+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		parse := firmware.ParseNBFT
		if strings.HasPrefix(n, "ibft") {
			parse = firmware.ParseIBFT
		}
		table, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, *table)
	}
	// Facts travel as JSON.
	b, err := json.Marshal(FromFirmware(list))
	if err != nil {
		t.Fatal(err)
	}
	var facts []appliance.Firmware
	if err := json.Unmarshal(b, &facts); err != nil {
		t.Fatal(err)
	}
	return facts
}

func withFirmware(t *testing.T, text string, names ...string) *plan.Plan {
	t.Helper()
	a, err := appliance.Parse([]appliance.Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: t\n" + text)}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Compile(a, plan.Facts{Firmware: tables(t, names...)}, Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatTheFirmwareAsksForBecomesThisPlan(t *testing.T) {
	for _, c := range []struct {
		name, text string
		tables     []string
	}{
		{"two tables and a file that says nothing", "", []string{"ibft_two_nics", "nbft_two_paths"}},
		{"a lease, and no gateway of its own", "", []string{"ibft_dhcp"}},
		{"a name without an id", "", []string{"nbft_swapped_id"}},
		{"the file has an interface of the table, and the subsystem", `network:
  links:
    - {name: san, match: {mac: "52:54:00:00:00:01"}, addresses: [192.0.2.99/24]}
fabrics:
  nvme:
    - {name: root, subsystem: "nqn.2026-01.net.example:root", paths: ["tcp://192.0.2.40:4420"]}
`, []string{"nbft_two_paths"}},
		{"the file has a bond of an interface of the table", `network:
  links:
    - {name: bond0, bond: {mode: active-backup, members: [{mac: "52:54:00:00:00:01"}, {mac: "52:54:00:00:00:02"}]}}
`, []string{"ibft_two_nics"}},
		{"the host configures its network", "network: {by: host}\n", []string{"ibft_two_nics"}},
		{"the file wants nothing of it", "firmware: ignore\n", []string{"ibft_two_nics"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := withFirmware(t, c.text, c.tables...)
			var b bytes.Buffer
			if err := p.Text(&b); err != nil {
				t.Fatal(err)
			}
			for _, u := range p.Units {
				if u.Kind == "link" {
					s, err := spec[linkSpec](&u)
					if err != nil {
						t.Fatal(err)
					}
					shown, err := json.Marshal(s)
					if err != nil {
						t.Fatal(err)
					}
					b.WriteString(u.ID + " " + string(shown) + "\n")
				}
			}
			golden.Compare(t, filepath.Join("testdata", "firmware", strings.NewReplacer(" ", "_", ",", "").Replace(c.name)+".txt"), b.String())
		})
	}
}

func TestSubsystemsOfTheFirmwareAreEntriesOfFabrics(t *testing.T) {
	a, err := appliance.Parse([]appliance.Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: t\n")}})
	if err != nil {
		t.Fatal(err)
	}
	whole, notes := a.WithFirmware(tables(t, "nbft_two_paths", "nbft_swapped_id"))
	want := []appliance.NVMe{{
		Name: "nbft-1", Subsystem: "nqn.2026-01.net.example:root",
		Paths: []appliance.NVMePath{
			{Way: appliance.Way{Address: "tcp://192.0.2.40:4420", HostAddress: "192.0.2.17"}},
			{Way: appliance.Way{Address: "tcp://[2001:db8:120::40]:4421", HostAddress: "2001:db8:120::17"}},
			{Way: appliance.Way{Address: "tcp://192.0.2.40:4420"}},
		},
		HostNQN: "nqn.2014-08.org.nvmexpress:uuid:550e8400-e29b-41d4-a716-446655440001", HostID: "550e8400-e29b-41d4-a716-446655440001",
		Options: appliance.NVMeOptions{HeaderDigest: true, DataDigest: true},
	}}
	if diff := cmp.Diff(want, whole.Fabrics.NVMe); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "DH-HMAC-CHAP") {
		t.Errorf("notes: %q", notes)
	}
	if a.Fabrics != nil || a.Network != nil {
		t.Error("the file's own appliance was changed")
	}
}
