package firmware_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"initd/hw/firmware"
	"initd/hw/sysfs"
)

// fuzz feeds a parser of raw tables.
func fuzz(f *testing.F, read func([]byte) (*firmware.Table, error), seeds ...string) {
	for _, s := range seeds {
		f.Add(capture(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 36 { // let the fuzzer get past length and checksum
			b = append([]byte(nil), b...)
			b[4], b[5], b[6], b[7] = byte(len(b)), byte(len(b)>>8), byte(len(b)>>16), byte(len(b)>>24)
			reseal(b)
		}
		if table, err := read(b); err == nil {
			usable(t, table)
		}
	})
}

// usable: what a table says can be relied upon, and is bounded.
func usable(t *testing.T, table *firmware.Table) {
	t.Helper()
	if len(table.NICs)+len(table.Targets)+len(table.Subsystems)+len(table.Problems) > 4*256 {
		t.Error("it became more than a table can hold")
	}
	for _, x := range table.NICs {
		if x.MAC == "" || x.VLAN < 0 || x.VLAN > 4094 || x.Address.IsValid() && (x.Address.Bits() < 1 || x.Address.Addr().IsMulticast()) {
			t.Errorf("an unusable interface: %+v", x)
		}
	}
	for _, x := range table.Subsystems {
		if !x.Address.IsValid() || x.NQN == "" {
			t.Errorf("an unusable subsystem: %+v", x)
		}
	}
	for _, x := range table.Targets {
		if !x.Portal.IsValid() || x.Portal.Port() == 0 || x.Name == "" || strings.ContainsAny(x.Name, " \n") {
			t.Errorf("an unusable target: %+v", x)
		}
	}
	if _, err := json.Marshal(table); err != nil {
		t.Error(err)
	}
}

func FuzzParseIBFT(f *testing.F) { fuzz(f, firmware.ParseIBFT, "ibft_two_nics", "ibft_dhcp") }
func FuzzParseNBFT(f *testing.F) { fuzz(f, firmware.ParseNBFT, "nbft_two_paths", "nbft_swapped_id") }

const ibftDir = "sys/firmware/ibft/"

// addFolder makes a seed of each object of a folder of iscsi_ibft: OBJECT/ATTRIBUTE=TEXT, each ended by a NUL. They are kept short,
// because what the fuzzer makes smaller takes it the square of its length.
func addFolder(f *testing.F, m fstest.MapFS) {
	objects := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rest := strings.TrimPrefix(name, ibftDir)
		objects[path.Dir(rest)] += rest + "=" + strings.TrimSuffix(string(m[name].Data), "\n") + "\x00"
	}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		f.Add(objects[name])
	}
}

func folderFrom(text string) fstest.MapFS {
	m := fstest.MapFS{}
	for line := range strings.SplitSeq(text, "\x00") {
		if len(m) == 200 {
			break
		}
		if name, value, ok := strings.Cut(line, "="); ok && strings.Count(name, "/") == 1 {
			m[ibftDir+name] = &fstest.MapFile{Data: []byte(value)}
		}
	}
	return m
}

// quick is a MapFS that knows its folders, and does not look through all of itself for what is not there.
type quick struct {
	files   fstest.MapFS
	folders map[string]bool
}

func quickly(m fstest.MapFS) quick {
	q := quick{m, map[string]bool{strings.TrimSuffix(ibftDir, "/"): true}}
	for name := range m {
		q.folders[path.Dir(name)] = true
	}
	return q
}

func (q quick) Open(name string) (fs.File, error) {
	if q.files[name] == nil && !q.folders[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return q.files.Open(name)
}

func FuzzIBFTFolder(f *testing.F) {
	addFolder(f, folderOf())
	dhcp := folderOf()
	for name, text := range map[string]string{
		"ethernet0/dhcp": "192.0.2.2\n", "ethernet0/origin": "3\n", "ethernet1/flags": "0\n", "target0/chap-type": "0\n", "target1/port": "70000\n",
		"target0/lun": "47d0000000\n", "target1/nic-assoc": "256\n", "target2/flags": "3\n", "acpi_header/signature": "iBFT\n",
	} {
		dhcp[ibftDir+name] = &fstest.MapFile{Data: []byte(text)}
	}
	delete(dhcp, ibftDir+"ethernet0/prefix-len")
	addFolder(f, dhcp)
	f.Fuzz(func(t *testing.T, text string) {
		m := folderFrom(text)
		m[ibftDir+"initiator/flags"] = &fstest.MapFile{Data: []byte("3\n")} // else the raw table is looked for
		sys := sysfs.New(quickly(m))
		list, err := firmware.Read(sys)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d tables, %v", len(list), err)
		}
		usable(t, &list[0])
		for _, x := range list[0].Targets[:min(len(list[0].Targets), 3)] {
			one, reverse, err := firmware.CHAPSecrets(sys, x.Index)
			if err == nil && x.CHAP != nil && one != nil && one.Len() == 0 {
				t.Error("a secret of nothing")
			}
			one.Destroy()
			reverse.Destroy()
		}
	})
}
