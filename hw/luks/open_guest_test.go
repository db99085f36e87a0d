//go:build guest

package luks

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/anatol/devmapper.go"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"initd/hw/dm"
)

// These tests need the modules dm_crypt, xts, cbc, essiv, twofish_generic, loop and the programs cryptsetup and dmsetup.
// Devices are loop devices over files, so that each test has as many as it wants.

var keyWord = regexp.MustCompile(`crypt (\S+) (\S+) `)

// small makes formatting quick: what is wiped is the area for key slots.
const small = "--luks2-keyslots-size 1m "

type kind struct {
	name, options string
	add           string // options of a second slot
	damage        bool   // of the first header
	cryptsetup    string // further options to open
	discards      bool
	readOnly      bool
}

func kinds() []kind {
	return []kind{
		{name: "luks1", options: "--type luks1 " + cheap},
		{name: "luks1-essiv", options: "--type luks1 --cipher aes-cbc-essiv:sha256 --key-size 256 " + cheap},
		{name: "luks1-twofish", options: "--type luks1 --cipher twofish-xts-plain64 " + cheap},
		{name: "luks1-detached", options: "--type luks1 --header " + cheap},
		{name: "argon2id", options: "--type luks2 " + small + "--pbkdf argon2id --pbkdf-memory 16384 --pbkdf-force-iterations 4"},
		{name: "sectors-512", options: "--type luks2 " + small + "--sector-size 512 " + cheap},
		{name: "sectors-4096", options: "--type luks2 " + small + "--sector-size 4096 " + cheap},
		{name: "several-slots", options: "--type luks2 " + small + cheap, add: "--key-slot 4 " + cheap},
		{name: "detached", options: "--type luks2 " + small + "--header " + cheap},
		{name: "damaged", options: "--type luks2 " + small + cheap, damage: true},
		{name: "discards", options: "--type luks2 " + small + cheap, cryptsetup: "--allow-discards", discards: true},
		{name: "read-only", options: "--type luks2 " + small + cheap, cryptsetup: "--readonly", readOnly: true},
	}
}

// Every kind of volume: cryptsetup makes it and writes to it; one batch opens them all; what cryptsetup wrote is read,
// the tables are equal, something else is written; and cryptsetup reads that. Nothing secret stays with open.
func TestEveryKindOfVolumeOpensThroughTwoProcesses(t *testing.T) {
	var volumes []Volume
	var images []image
	var volumeKeys [][]byte
	var tables, statuses []string
	for _, k := range kinds() {
		img := format(t, k.options)
		key := first
		if k.add != "" {
			img.addKey(t, k.add)
			key = second
		}
		device := attach(t, img.path)
		ref := "ref-" + k.name
		img.path = device.Name()
		img.reference(t, k, ref)
		length := imageSize - img.dumped(t).Offset
		if !k.readOnly {
			write(t, ref, length, "by cryptsetup")
		}
		tables, statuses = append(tables, table(t, ref)), append(statuses, status(t, ref))
		cryptsetup(t, "", "close", ref)
		volumeKeys = append(volumeKeys, img.volumeKey(t))
		if k.damage {
			if _, err := device.WriteAt([]byte("damage"), 5000); err != nil {
				t.Fatal(err)
			}
		}
		v := Volume{Name: k.name, Data: device, Keys: sealed(t, wrong, key), Discards: k.discards, ReadOnly: k.readOnly}
		if img.header != "" {
			v.Header = img.open(t)
		}
		volumes, images = append(volumes, v), append(images, img)
	}
	before := keysOfRoot(t)

	answers := openAll(t, volumes, func(pid int) {
		patterns := append(volumeKeys, []byte(first), []byte(second), []byte(wrong), []byte("initd:"+images[0].dumped(t).UUID))
		found := copies(t, pid, patterns...)
		last := len(found) - 1
		if found[last] == 0 {
			t.Error("not even a key's description was found in open: the search does not work")
		}
		for i, n := range found[:last] {
			if n != 0 {
				t.Errorf("open holds %d copies of secret %d", n, i)
			}
		}
	})
	for i, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			if answers[i].Error != "" {
				t.Fatal(answers[i].Error)
			}
			p := answers[i].Params
			if p.Secondary != k.damage || p.Key != 1 || (k.add != "") != (p.Slot == 4) {
				t.Errorf("got %+v", p)
			}
			if diff := cmp.Diff(tables[i], table(t, k.name)); diff != "" {
				t.Errorf("-cryptsetup +ours:\n%s", diff)
			}
			if diff := cmp.Diff(statuses[i], status(t, k.name)); diff != "" {
				t.Errorf("-cryptsetup +ours:\n%s", diff)
			}
			if got, err := Check(k.name, p.UUID); err != nil || got.Answer != Same {
				t.Errorf("check: %+v, %v", got, err)
			}
			if got, err := Check(k.name, "00000000-0000-4000-8000-000000000000"); err != nil || got.Answer != Different {
				t.Errorf("check of another volume: %+v, %v", got, err)
			}
			length := p.Length * SectorSize
			if k.readOnly {
				device, err := os.OpenFile(dm.Node(k.name), os.O_WRONLY, 0)
				if err == nil {
					_, err = device.Write(make([]byte, 4096))
					device.Close()
				}
				if err == nil {
					t.Error("it can be written to")
				}
				return
			}
			if !holds(t, k.name, length, "by cryptsetup") {
				t.Error("it does not hold what cryptsetup wrote")
			}
			write(t, k.name, length, "by us")
			if err := Close(t.Context(), k.name); err != nil {
				t.Fatal(err)
			}
			images[i].reference(t, k, "again")
			if !holds(t, "again", length, "by us") {
				t.Error("cryptsetup does not read what we wrote")
			}
			cryptsetup(t, "", "close", "again")
		})
	}
	waitFor(t, "the keys to go", func() bool { return keysOfRoot(t) <= before })
}

// reference opens a volume by cryptsetup.
func (img image) reference(t *testing.T, k kind, name string) {
	t.Helper()
	args := []string{"open", "--type", "luks", "--key-file", "-", img.path, name}
	if img.header != "" {
		args = append(args, "--header", img.header)
	}
	cryptsetup(t, first, append(args, strings.Fields(k.cryptsetup)...)...)
}

// A key is seen by the thread that has the keyring and found by nobody else, and forgetting is at once.
func TestAKeyIsForItsSessionAlone(t *testing.T) {
	before := keysOfRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		description := describe("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5")
		ring, err := joinSession()
		if err := errors.Join(err, SessionKeyring{}.Add(description, []byte("payload"))); err != nil {
			t.Error(err)
			return
		}
		if keysOfRoot(t) != before+2 {
			t.Errorf("%d keys, were %d", keysOfRoot(t), before)
		}
		visible := func() bool {
			text, err := os.ReadFile("/proc/keys")
			return err == nil && bytes.Contains(text, []byte(description))
		}
		id, err := findKey(ring, description)
		if err != nil || !visible() {
			t.Errorf("its own thread does not have it: %v", err)
		}
		if n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, make([]byte, 64), 0); err == nil {
			t.Errorf("%d bytes of it were read", n)
		}
		others := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, err := findKey(ring, description)
			others <- err
		}()
		if err := <-others; err == nil {
			t.Error("another thread found it")
		}
		if err := forget(ring, id); err != nil {
			t.Error(err)
		}
		if _, err := findKey(ring, description); err == nil || visible() {
			t.Error("it is there after it was forgotten")
		}
		if err := leaveSession(); err != nil {
			t.Error(err)
		}
	}()
	<-done
	// The keyring itself may stay: a goroutine that ran on the main thread cannot end it.
	waitFor(t, "the key to go", func() bool { return keysOfRoot(t) <= before+1 })
}

func TestACrashOfDeriveCostsItsVolumeAlone(t *testing.T) {
	var volumes []Volume
	for _, name := range []string{"before", crashes, crashesLast, "after"} {
		volumes = append(volumes, Volume{Name: name, Data: attach(t, format(t, "--type luks2 "+small+""+cheap).path), Keys: sealed(t, first)})
	}
	answers := openAll(t, volumes, nil)
	if answers[0].Error != "" || answers[3].Error != "" || !strings.Contains(answers[1].Error, "exit status 2") || !strings.Contains(answers[2].Error, "exit status 2") {
		t.Errorf("got %+v", answers)
	}
	for _, name := range []string{crashes, crashesLast} {
		if got, err := Check(name, ""); err != nil || got.Answer != Absent {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func TestAMappingThatWasBegunIsCompletedAndAnothersIsLeftAlone(t *testing.T) {
	img := format(t, "--type luks2 "+small+""+cheap)
	device := attach(t, img.path)
	uuid := img.dumped(t).UUID
	volume := Volume{Name: "begun", Data: device, Keys: sealed(t, first)}
	if err := dm.Create("begun", dmUUID("LUKS2", uuid, "begun")); err != nil {
		t.Fatal(err)
	}
	if got, err := Check("begun", uuid); err != nil || got.Answer != Partial {
		t.Errorf("got %+v, %v", got, err)
	}
	for range 2 { // the second time it is there
		if answers := openAll(t, []Volume{volume}, nil); answers[0].Error != "" {
			t.Error(answers[0].Error)
		}
	}
	if got, err := Check("begun", uuid); err != nil || got.Answer != Same {
		t.Errorf("got %+v, %v", got, err)
	}

	volume.Name = "taken"
	if err := errors.Join(dm.Create("taken", "LVM-x"), dm.Load("taken", false, devmapper.ErrorTable{Length: 512 * 8}), dm.Resume(t.Context(), "taken")); err != nil {
		t.Fatal(err)
	}
	answers := openAll(t, []Volume{volume}, nil)
	if !strings.HasSuffix(answers[0].Error, `: /dev/mapper/taken: the name is taken by a device that is not encrypted (UUID "LVM-x")`) {
		t.Errorf("got %s", answers[0].Error)
	}
	if info, err := dm.Stat("taken"); err != nil || info.UUID != "LVM-x" {
		t.Errorf("got %+v, %v", info, err)
	}
}

// A device in exclusive use, as by a mount, cannot be mapped; nothing is left of the attempt.
func TestABusyDeviceIsNamedAndNothingIsLeft(t *testing.T) {
	device := attach(t, format(t, "--type luks2 "+small+""+cheap).path)
	exclusive, err := os.OpenFile(device.Name(), os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer exclusive.Close()
	answers := openAll(t, []Volume{{Name: "busy", Data: device, Keys: sealed(t, first)}}, nil)
	if !strings.HasSuffix(answers[0].Error, ": the device is in use (mounted, or taken by another driver)") {
		t.Errorf("got %q", answers[0].Error)
	}
	if got, err := Check("busy", ""); err != nil || got.Answer != Absent {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The kernel lets mappings share a device: two of one volume would write over each other.
func TestADeviceHoldsOneMapping(t *testing.T) {
	device := attach(t, format(t, "--type luks2 "+small+""+cheap).path)
	volume := func(name string) Volume { return Volume{Name: name, Data: device, Keys: sealed(t, first)} }
	if answers := openAll(t, []Volume{volume("lone")}, nil); answers[0].Error != "" {
		t.Fatal(answers[0].Error)
	}
	answers := openAll(t, []Volume{volume("second"), volume("lone")}, nil)
	if !strings.HasSuffix(answers[0].Error, " (lone) is on it") || answers[1].Error != "" {
		t.Errorf("got %+v", answers)
	}
	if got, err := Check("second", ""); err != nil || got.Answer != Absent {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, ok := errors.AsType[*InUseError](OpenPlain(t.Context(), Plain{Name: "scratch", Data: device}, nothingForeign)); ok {
		t.Error("its LUKS header was not seen before its mapping")
	}
}

func TestAnEphemeralKeyIsAnotherOneEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scratch")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, imageSize)); err != nil {
		t.Fatal(err)
	}
	device := attach(t, path)
	plain := Plain{Name: "scratch", Data: device, Discards: true}
	for round := range 2 {
		if err := OpenPlain(t.Context(), plain, nothingForeign); err != nil {
			t.Fatal(err)
		}
		if round > 0 && holds(t, "scratch", imageSize, "kept by nobody") {
			t.Error("what was there with the last key is readable")
		}
		write(t, "scratch", imageSize, "kept by nobody")
		if !holds(t, "scratch", imageSize, "kept by nobody") {
			t.Error("it does not hold what was written")
		}
		if got, err := Check("scratch", ""); err != nil || got.Answer != Same {
			t.Errorf("got %+v, %v", got, err)
		}
		if want := "0 40960 crypt aes-xts-plain64 KEY 0 " + backing(t, device) + " 0 2 allow_discards sector_size:4096"; table(t, "scratch") != want {
			t.Errorf("got %s, want %s", table(t, "scratch"), want)
		}
		if err := Close(t.Context(), "scratch"); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil || bytes.Contains(raw, pattern("kept by nobody0")[:512]) {
			t.Errorf("the device holds it in the clear (%v)", err)
		}
	}
	if _, err := device.WriteAt(capture(t, "luks2.img"), 0); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*SignatureError](OpenPlain(t.Context(), plain, nothingForeign)); !ok {
		t.Error("a LUKS volume was taken for scratch")
	}
}
