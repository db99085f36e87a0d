package firmware_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"initd/hw/firmware"
	"initd/hw/sysfs"
	"initd/tests/golden"
)

func capture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(name string, b []byte) (*firmware.Table, error) {
	if strings.HasPrefix(name, "ibft") {
		return firmware.ParseIBFT(b)
	}
	return firmware.ParseNBFT(b)
}

func TestTablesAreReadAsTheSpecificationsSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".bin")
		t.Run(name, func(t *testing.T) {
			table, err := parse(name, capture(t, name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(table, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, filepath.Join("testdata", name+".json"), string(got)+"\n")
			for _, s := range []string{"0123456789abcdef", "fedcba9876543210"} {
				if strings.Contains(string(got), s) {
					t.Error("a secret is in what marshals")
				}
			}
		})
	}
}

// folderOf is what iscsi_ibft shows of ibft_two_nics, as a kernel 6.12 prints it.
func folderOf() fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range map[string]string{
		"initiator/initiator-name": "iqn.2026-01.net.example:store-07\n", "initiator/flags": "3\n", "initiator/index": "0\n",
		"ethernet0/index": "0\n", "ethernet0/flags": "3\n", "ethernet0/ip-addr": "192.0.2.17\n", "ethernet0/prefix-len": "24\n",
		"ethernet0/subnet-mask": "255.255.255.0\n", "ethernet0/origin": "1\n", "ethernet0/gateway": "192.0.2.1\n",
		"ethernet0/primary-dns": "198.51.100.53\n", "ethernet0/secondary-dns": "198.51.100.54\n", "ethernet0/vlan": "0\n",
		"ethernet0/mac": "52:54:00:00:00:01\n", "ethernet0/hostname": "store-07\n",
		"ethernet1/index": "1\n", "ethernet1/flags": "3\n", "ethernet1/ip-addr": "2001:0db8:0120:0000:0000:0000:0000:0017\n",
		"ethernet1/prefix-len": "64\n", "ethernet1/origin": "1\n", "ethernet1/vlan": "120\n", "ethernet1/mac": "52:54:00:00:00:02\n",
		"target0/index": "0\n", "target0/flags": "3\n", "target0/ip-addr": "192.0.2.50\n", "target0/port": "3260\n", "target0/lun": "01000000\n",
		"target0/chap-type": "2\n", "target0/nic-assoc": "0\n", "target0/target-name": "iqn.2026-01.net.example:root\n",
		"target0/chap-name": "store-07\n", "target0/chap-secret": "0123456789abcdef\n", "target0/rev-chap-name": "target\n",
		"target0/rev-chap-name-secret": "fedcba9876543210\n",
		"target1/index":                "1\n", "target1/flags": "3\n", "target1/ip-addr": "2001:0db8:0120:0000:0000:0000:0000:0050\n", "target1/port": "3261\n",
		"target1/lun": "01000000\n", "target1/chap-type": "0\n", "target1/nic-assoc": "1\n", "target1/target-name": "iqn.2026-01.net.example:root\n",
	} {
		m["sys/firmware/ibft/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func acpiOf(t *testing.T, tables map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, from := range tables {
		m["sys/firmware/acpi/tables/"+name] = &fstest.MapFile{Data: capture(t, from)}
	}
	return m
}

func TestTheKernelsFolderAndTheRawTableSayTheSame(t *testing.T) {
	kernel, err := firmware.Read(sysfs.New(folderOf()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := firmware.Read(sysfs.New(acpiOf(t, map[string]string{"iBFT": "ibft_two_nics"})))
	if err != nil {
		t.Fatal(err)
	}
	raw[0].NICs[0].PCI = "" // a link of sysfs, which the captured folder does not have
	if diff := cmp.Diff(raw, kernel, cmp.Comparer(func(a, b interface{ String() string }) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("(-raw +kernel):\n%s", diff)
	}
}

func TestEverySecretIsReadWhereItIsUsed(t *testing.T) {
	for name, tree := range map[string]fstest.MapFS{"the kernel's folder": folderOf(), "the raw table": acpiOf(t, map[string]string{"IBFT": "ibft_two_nics"})} {
		t.Run(name, func(t *testing.T) {
			sys := sysfs.New(tree)
			one, reverse, err := firmware.CHAPSecrets(sys, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer one.Destroy()
			defer reverse.Destroy()
			if string(one.Bytes()) != "0123456789abcdef" || string(reverse.Bytes()) != "fedcba9876543210" {
				t.Error("the secrets are others than those of the table")
			}
			if one, reverse, err := firmware.CHAPSecrets(sys, 1); one != nil || reverse != nil || err != nil {
				t.Error("a target without CHAP has secrets", err)
			}
			if _, _, err := firmware.CHAPSecrets(sys, 7); err == nil || !strings.Contains(err.Error(), "target 7") {
				t.Errorf("no such target: %v", err)
			}
		})
	}
}

func TestEveryNBFTIsFoundInOrder(t *testing.T) {
	tree := acpiOf(t, map[string]string{"NBFT1": "nbft_two_paths", "NBFT2": "nbft_swapped_id", "NBFT10": "nbft_two_paths", "SSDT": "ibft_dhcp"})
	tree["sys/firmware/acpi/tables/NBFT3"] = &fstest.MapFile{Data: []byte("NBFT, they say")}
	list, err := firmware.Read(sysfs.New(tree))
	var got []string
	for _, x := range list {
		got = append(got, x.Source)
	}
	if diff := cmp.Diff([]string{"NBFT1", "NBFT2", "NBFT10"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !errors.Is(err, firmware.ErrTable) || !strings.Contains(err.Error(), "NBFT3") {
		t.Errorf("the broken one: %v", err)
	}
}

func TestAMachineWithoutTablesHasNone(t *testing.T) {
	list, err := firmware.Read(sysfs.New(fstest.MapFS{"sys/firmware/dmi": &fstest.MapFile{}}))
	if len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// reseal mends the checksum of a table that a test has changed.
func reseal(b []byte) []byte {
	b[9] = 0
	var sum byte
	for _, x := range b {
		sum += x
	}
	b[9] = -sum
	return b
}

func TestWhatMakesNoSenseIsLeftOutAndNamed(t *testing.T) {
	for _, c := range []struct {
		name, table string
		change      func(b []byte) []byte
		want        string
	}{
		{"a checksum that is wrong", "ibft_dhcp", func(b []byte) []byte { b[100]++; return b }, "checksum"},
		{"a table that was cut off", "nbft_two_paths", func(b []byte) []byte { return b[:200] }, "it says that it has"},
		{"another table", "nbft_two_paths", func(b []byte) []byte { copy(b, "SSDT"); return reseal(b) }, "signature"},
		{"a version to come", "nbft_two_paths", func(b []byte) []byte { b[8] = 2; return reseal(b) }, "version"},
		{"a heap beyond the table", "nbft_two_paths", func(b []byte) []byte { b[42] = 9; return reseal(b) }, "heap"},
		{"a NIC beyond the table", "ibft_dhcp", func(b []byte) []byte { b[58], b[59] = 0xff, 0x7f; return reseal(b) }, "not within"},
		{"a prefix of 77 bits of IPv4", "ibft_dhcp", func(b []byte) []byte { b[152+22] = 77; return reseal(b) }, "77 bits"},
		{"an interface that is no TCP", "nbft_two_paths", func(b []byte) []byte { b[128+3] = 1; return reseal(b) }, "transport"},
		{"an NQN that is none", "nbft_swapped_id", func(b []byte) []byte { return reseal([]byte(strings.Replace(string(b), "nqn.2026", "xxx.2026", 1))) }, "no NQN"},
		{"a name with a newline in it", "ibft_dhcp", func(b []byte) []byte {
			return reseal([]byte(strings.Replace(string(b), "net.example:root", "net.example\nroot", 1)))
		}, "byte 0x0a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := parse(c.table, c.change(capture(t, c.table)))
			said := ""
			if err != nil {
				said = err.Error()
			} else {
				said = strings.Join(table.Problems, "\n")
			}
			if !strings.Contains(said, c.want) {
				t.Errorf("want %q in %q", c.want, said)
			}
		})
	}
}
