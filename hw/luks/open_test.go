//go:build !guest

package luks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/dm"
)

func playOpen() error { return errors.New("the open role is for guests") }

// heap is a Keyring without a kernel.
type heap struct {
	mu   sync.Mutex
	keys map[string]string
}

func (h *heap) Add(description string, payload []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, taken := h.keys[description]; taken {
		return fmt.Errorf("%s is taken", description)
	}
	h.keys[description] = string(payload)
	return nil
}

func TestABatchIsDerivedWithAResultForEachVolume(t *testing.T) {
	good, detached := format(t, "--type luks2 "+cheap), format(t, "--type luks1 --header "+cheap)
	empty, err := os.Create(t.TempDir() + "/empty")
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	files := append([]*os.File{good.open(t), detached.open(t), empty}, sealed(t, wrong, first)...)
	p := DeriveParams{MemoryKiB: 1 << 20, Volumes: []DeriveVolume{
		{Name: "good", Header: 0, DataSize: imageSize, Keys: []int{4}},
		{Name: "empty", Header: 2, DataSize: imageSize, Keys: []int{4}},
		{Name: "detached", Header: 1, Detached: true, DataSize: imageSize, Keys: []int{3, 4}},
		{Name: "good again", Header: 0, DataSize: imageSize, Keys: []int{4}, UUID: good.dumped(t).UUID},
		{Name: "wrong key", Header: 0, DataSize: imageSize, Keys: []int{3}},
		{Name: "unsealed key", Header: 0, DataSize: imageSize, Keys: []int{2}},
		{Name: "wrong volume", Header: 0, DataSize: imageSize, Keys: []int{4}, UUID: detached.dumped(t).UUID},
		{Name: "no such file", Header: 9, DataSize: imageSize},
	}}
	ring := &heap{keys: map[string]string{}}
	var got []string
	for i, result := range derived(t.Context(), p, files, DeriveOptions{Keyring: ring}) {
		if result.Failure != nil {
			got = append(got, fmt.Sprintf("%s: %s", p.Volumes[i].Name, result.Failure.Kind))
			continue
		}
		if err := result.Params.check(); err != nil {
			t.Errorf("%s: %v", p.Volumes[i].Name, err)
		}
		got = append(got, fmt.Sprintf("%s: slot %d by key %d", p.Volumes[i].Name, result.Params.Slot, result.Params.Key))
		img := good
		if i == 2 {
			img = detached
		}
		if ring.keys[result.Params.KeyDescription] != string(img.volumeKey(t)) {
			t.Errorf("%s: another key is in the keyring", p.Volumes[i].Name)
		}
	}
	want := []string{
		"good: slot 0 by key 0", "empty: LUKS-NOT-LUKS", "detached: slot 0 by key 1", "good again: slot 0 by key 0",
		"wrong key: LUKS-NO-MATCHING-KEY", "unsealed key: ", "wrong volume: LUKS-NOT-LUKS", "no such file: ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(ring.keys) != 3 { // the same volume twice has two keys: the descriptions carry a nonce
		t.Errorf("%d keys in the ring", len(ring.keys))
	}
}

func TestErrorsKeepTheirTypeFromProcessToProcess(t *testing.T) {
	for _, want := range []error{
		&NotLUKSError{Found: "an ext4 file system"}, &DamagedError{How: "its checksum is wrong"},
		&UnsupportedError{What: "the hash whirlpool"}, &TooCostlyError{NeedKiB: 2 << 20, HaveKiB: 1 << 20},
		&NoMatchingKeyError{Keys: 2, Slots: []*SlotError{{1, 0, ErrWrongKey}, {2, 1, &TooCostlyError{5, 4}}}},
		ErrWrongKey, errors.New("anything else"),
	} {
		encoded, err := json.Marshal(failureOf(fmt.Errorf("derive: %w", want)))
		if err != nil {
			t.Fatal(err)
		}
		var f Failure
		if err := json.Unmarshal(encoded, &f); err != nil {
			t.Fatal(err)
		}
		got := f.Err()
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) || !strings.HasSuffix(got.Error(), want.Error()) {
			t.Errorf("got %T %v, want %T %v", got, got, want, want)
		}
	}
}

func TestResultsOfADeriveThatWasTakenOverAreRefused(t *testing.T) {
	const uuid = "6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
	sound := func() Params {
		return Params{UUID: uuid, Version: 2, Cipher: "aes-xts-plain64", KeyDescription: describe(uuid), KeySize: 64, Length: 8, SectorSize: 512}
	}
	if err := sound().check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Params){
		"a cipher of several words": func(p *Params) { p.Cipher = "aes-xts-plain64 - 0 8:0 0" },
		"a flag of several words":   func(p *Params) { p.Flags = []string{"allow_discards integrity:0:none"} },
		"a key of another prefix":   func(p *Params) { p.KeyDescription = "fscrypt" + p.KeyDescription[7:] },
		"a UUID of two words":       func(p *Params) { p.UUID = uuid + " x" },
		"an odd sector size":        func(p *Params) { p.SectorSize = 513 },
		"no version":                func(p *Params) { p.Version = 0 },
	} {
		p := sound()
		change(&p)
		if err := p.check(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestNothingIsOverwrittenByAnEphemeralKey(t *testing.T) {
	img := format(t, "--type luks2 "+cheap)
	for _, row := range []struct {
		name, probe string
		change      func()
		found       string // "" if nothing but the kind of file is in the way
	}{
		{"a LUKS header", "", func() {}, "a LUKS header at byte 0"},
		{"a second LUKS header alone", "", func() { img.damage(t, 0, make([]byte, binarySize)) }, "a LUKS header at byte 16384"},
		{"what the probe finds", "an xfs file system", func() { img.damage(t, 0, make([]byte, 1<<20)) }, "an xfs file system"},
		{"nothing", "", func() {}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.change()
			file := img.open(t)
			err := OpenPlain(t.Context(), Plain{Name: "scratch", Data: file}, func(io.ReaderAt) (string, error) { return row.probe, nil })
			signature, ok := errors.AsType[*SignatureError](err)
			switch {
			case row.found == "" && !strings.Contains(fmt.Sprint(err), "is no block device"),
				row.found != "" && (!ok || signature.Found != row.found || !strings.Contains(err.Error(), "unlock scratch ("+file.Name())):
				t.Errorf("got %v", err)
			}
		})
	}
	if err := OpenPlain(t.Context(), Plain{Name: "scratch", Data: img.open(t)}, nil); err == nil {
		t.Error("a device that nobody looked at was opened")
	}
}

func TestWhatIsInTheWayOfAMappingIsNamed(t *testing.T) {
	const uuid = "6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5"
	ours := func(other string) bool { return other == dmUUID("LUKS2", uuid, "tank0") }
	crypt := []dm.Target{{Length: 8, Type: "crypt", Params: "aes-xts-plain64 :64:logon:x 0 254:0 32768"}}
	live := dm.Info{Name: "tank0", UUID: "CRYPT-LUKS2-6d6b1c5e7c0f4c389d310f8ab6a6a3f5-tank0", Active: true}
	for _, row := range []struct {
		name   string
		change func(*dm.Info)
		table  []dm.Target
		want   Answer
		reason string
	}{
		{"it is there", func(*dm.Info) {}, crypt, Same, ""},
		{"another volume", func(i *dm.Info) { i.UUID = "CRYPT-LUKS2-0-tank0" }, crypt, Different, "another volume"},
		{"something else", func(i *dm.Info) { i.UUID = "LVM-x" }, crypt, Different, "not encrypted"},
		{"created and no more", func(i *dm.Info) { i.Active = false }, nil, Partial, "no table"},
		{"wiped", func(*dm.Info) {}, []dm.Target{{Type: "error"}}, Different, "not one crypt target"},
		{"suspended", func(i *dm.Info) { i.Suspended = true }, crypt, Different, "luksResume tank0"},
	} {
		info := live
		row.change(&info)
		if got := compare(info, row.table, ours); got.Answer != row.want || !strings.Contains(got.Reason, row.reason) {
			t.Errorf("%s: got %+v", row.name, got)
		}
	}
}

func TestModulesComeInTheirOrder(t *testing.T) {
	for cipher, want := range map[string]Modules{
		"":                        {[]string{"dm_crypt", "xts", "ecb"}, []string{"aesni_intel"}},
		"aes-cbc-essiv:sha256":    {[]string{"dm_crypt", "cbc", "essiv", "sha256_generic"}, []string{"aesni_intel"}},
		"serpent-xts-plain64":     {[]string{"dm_crypt", "serpent_generic", "xts", "ecb"}, []string{"serpent_sse2_x86_64", "serpent_avx_x86_64", "serpent_avx2"}},
		"unheard-of-in-any-table": {[]string{"dm_crypt"}, nil},
	} {
		if diff := cmp.Diff(want, ModulesFor(cipher)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", cipher, diff)
		}
	}
}

// derived is what Derive tells in the end, in the order of the volumes.
func derived(ctx context.Context, p DeriveParams, files []*os.File, o DeriveOptions) []Result {
	results := make([]Result, len(p.Volumes))
	var mu sync.Mutex
	Derive(ctx, p, files, o, func(t Told) {
		if t.Result != nil {
			mu.Lock()
			defer mu.Unlock()
			results[t.Volume] = *t.Result
		}
	})
	return results
}
