//go:build !guest

package luks

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/anatol/luks.go"
	"github.com/google/go-cmp/cmp"

	"initd/hw/secret"
)

func keys(t testing.TB, texts ...string) []*secret.Buffer {
	t.Helper()
	var all []*secret.Buffer
	for _, text := range texts {
		key, err := secret.From([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(key.Destroy)
		all = append(all, key)
	}
	return all
}

// verify is Verify of an image with plenty of memory.
func (img image) verify(t testing.TB, texts ...string) (Verified, error) {
	t.Helper()
	return Verify(t.Context(), VerifyRequest{
		Header: img.open(t), Detached: img.header != "", DataSize: imageSize, Keys: keys(t, texts...), MemoryKiB: 2 << 20,
	})
}

// damage overwrites a stretch of an image's header.
func (img image) damage(t *testing.T, offset int64, content []byte) {
	t.Helper()
	file, err := os.OpenFile(img.at(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(content, offset); err != nil {
		t.Fatal(err)
	}
}

// luksGo checks a volume key against that of luks.go, which only gives an HMAC of it.
func (img image) luksGo(t *testing.T, slot int, volumeKey []byte) {
	t.Helper()
	var dev luks.Device
	var err error
	if img.header != "" {
		dev, err = luks.OpenWithHeader(img.path, img.header)
	} else {
		dev, err = luks.Open(img.path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	volume, err := dev.UnsealVolume(slot, []byte(first))
	if err != nil {
		t.Fatalf("luks.go: %v", err)
	}
	got, err := volume.HMAC(crypto.SHA256, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, volumeKey)
	mac.Write([]byte("message"))
	if !hmac.Equal(got, mac.Sum(nil)) {
		t.Error("luks.go comes to another volume key")
	}
}

func TestVolumesOpenAsCryptsetupMadeThem(t *testing.T) {
	for _, row := range []struct {
		name, options string
		notLuksGo     bool // what luks.go cannot open
	}{
		{name: "LUKS1", options: "--type luks1 " + cheap},
		{name: "LUKS1 with sha1 and a key of 256 bits", options: "--type luks1 --hash sha1 --key-size 256 " + cheap},
		{name: "LUKS1 with cbc-essiv", options: "--type luks1 --cipher aes-cbc-essiv:sha256 --key-size 256 " + cheap, notLuksGo: true},
		{name: "LUKS1 with cbc-plain", options: "--type luks1 --cipher aes-cbc-plain --key-size 128 " + cheap, notLuksGo: true},
		{name: "LUKS1 with ripemd160", options: "--type luks1 --hash ripemd160 " + cheap},
		{name: "LUKS1 with a detached header", options: "--type luks1 --header " + cheap},
		{name: "LUKS2 with argon2id", options: "--type luks2 --pbkdf argon2id " + costs},
		{name: "LUKS2 with argon2i", options: "--type luks2 --pbkdf argon2i " + costs},
		{name: "LUKS2 with argon2id of one thread", options: "--type luks2 --pbkdf argon2id --pbkdf-parallel 1 " + costs},
		{name: "LUKS2 with pbkdf2", options: "--type luks2 " + cheap},
		{name: "LUKS2 with sha512", options: "--type luks2 --hash sha512 " + cheap},
		{name: "LUKS2 with blake2b", options: "--type luks2 --hash blake2b-512 " + cheap},
		{name: "LUKS2 with sha3", options: "--type luks2 --hash sha3-256 " + cheap},
		{name: "LUKS2 with sha3 of 384 bits", options: "--type luks2 --hash sha3-384 " + cheap, notLuksGo: true},
		{name: "LUKS2 with a hash in capital letters", options: "--type luks2 --hash SHA256 " + cheap, notLuksGo: true},
		{name: "LUKS1 with sha512-256", options: "--type luks1 --hash sha512-256 " + cheap, notLuksGo: true},
		{name: "LUKS1 with OpenSSL's name of a hash", options: "--type luks1 --hash rmd160 " + cheap, notLuksGo: true},
		{name: "LUKS2 with OpenSSL's name of another", options: "--type luks2 --hash blake2b512 " + cheap, notLuksGo: true},
		{name: "LUKS2 with headers of 4 MiB", options: "--type luks2 --luks2-metadata-size 4m --luks2-keyslots-size 1m " + cheap, notLuksGo: true},
		{name: "LUKS2 with sectors of 512 bytes", options: "--type luks2 --sector-size 512 " + cheap},
		{name: "LUKS2 with sectors of 4096 bytes", options: "--type luks2 --sector-size 4096 " + cheap},
		{name: "LUKS2 with a larger header", options: "--type luks2 --luks2-metadata-size 65536 --luks2-keyslots-size 1m " + cheap},
		{name: "LUKS2 with a detached header", options: "--type luks2 --header " + cheap},
		{name: "LUKS2 with a detached header and an offset", options: "--type luks2 --offset 4096 --header " + cheap},
		{name: "LUKS2 with a cbc volume", options: "--type luks2 --cipher aes-cbc-essiv:sha256 --key-size 256 " + cheap, notLuksGo: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			img := format(t, row.options)
			got, err := img.verify(t, first)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(img.dumped(t), got); diff != "" {
				t.Errorf("-cryptsetup +ours:\n%s", diff)
			}
			h, err := readHeader(headerSource{at: img.open(t), detached: img.header != "", dataSize: imageSize})
			if err != nil {
				t.Fatal(err)
			}
			found, err := h.unlock(t.Context(), img.open(t), keys(t, first), newMemory(1<<20), func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			defer found.volumeKey.Destroy()
			volumeKey := img.volumeKey(t)
			if !bytes.Equal(found.volumeKey.Bytes(), volumeKey) {
				t.Error("cryptsetup has another volume key")
			}
			if !row.notLuksGo {
				img.luksGo(t, found.slot, volumeKey)
			}
			if _, err := img.verify(t, wrong); err == nil {
				t.Error("a wrong key opens it")
			}
		})
	}
}

func TestSoundHeadersThatCannotBeOpenedSayWhat(t *testing.T) {
	for _, row := range []struct{ name, options, want string }{
		{"a hash that is too short", "--type luks2 --hash md5 " + cheap, `not supported: the hash "md5"`},
		{"a hash that Go does not have", "--type luks1 --hash sm3 " + cheap, `not supported: the hash "sm3"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := format(t, row.options).verify(t, first); err == nil || err.Error() != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
	slot := format(t, "--type luks2 --cipher aes-cbc-plain64be --key-size 256 "+cheap)
	if _, err := slot.verify(t, first); err == nil || err.Error() != "not supported: the cipher aes-cbc-plain64be for a key slot" {
		t.Errorf("got %v", err)
	}
	cryptsetup(t, first, strings.Fields("luksConvertKey --key-file - --keyslot-cipher aes-xts-plain64 --keyslot-key-size 512 "+cheap+" "+slot.path)...) // as the hint says
	if _, err := slot.verify(t, first); err != nil {
		t.Errorf("with another cipher for its slot: %v", err)
	}
	img := format(t, "--type luks2 --offset 65536 "+cheap)
	cryptsetup(t, first, "reencrypt", "--init-only", "--key-file", "-", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", img.path)
	_, err := img.verify(t, first)
	var e *UnsupportedError
	if !errors.As(err, &e) || !strings.Contains(e.What, "a volume that is being encrypted anew") || !strings.Contains(e.Hint(), "cryptsetup reencrypt --resume-only") {
		t.Errorf("got %v", err)
	}
	if err := checkCipher("xchacha12,aes-adiantum-plain64"); err != nil {
		t.Errorf("Adiantum: %v", err)
	}
}

func TestALUKS1HeaderThatWasConvertedOpens(t *testing.T) {
	img := format(t, "--type luks1 "+cheap)
	cryptsetup(t, "", "convert", "--type", "luks2", img.path)
	got, err := img.verify(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(img.dumped(t), got); diff != "" {
		t.Errorf("-cryptsetup +ours:\n%s", diff)
	}
}

func TestKeysAreTriedInOrderOnEverySlot(t *testing.T) {
	img := format(t, "--type luks2 "+cheap)
	img.addKey(t, "--key-slot 5 --pbkdf argon2id "+costs)
	for _, row := range []struct {
		keys      []string
		slot, key int
	}{
		{[]string{first}, 0, 0},
		{[]string{second}, 5, 0},
		{[]string{second, first}, 5, 0}, // the newest wins, whatever the order of the slots
		{[]string{wrong, second}, 5, 1},
	} {
		got, err := img.verify(t, row.keys...)
		if err != nil || got.Slot != row.slot || got.Key != row.key {
			t.Errorf("%d keys: slot %d, key %d, %v; want slot %d, key %d", len(row.keys), got.Slot, got.Key, err, row.slot, row.key)
		}
	}
	_, err := img.verify(t, wrong, "x")
	want := &NoMatchingKeyError{Keys: 2, Slots: []*SlotError{{0, 0, ErrWrongKey}, {5, 0, ErrWrongKey}, {0, 1, ErrWrongKey}, {5, 1, ErrWrongKey}}}
	if diff := cmp.Diff(fmt.Sprintf("%#v", failureOf(want)), fmt.Sprintf("%#v", failureOf(err))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := "no key matches: 2 keys tried on slot 0, 5"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestSlotsOfNoPriorityAreLeftAloneAndPreferredOnesComeFirst(t *testing.T) {
	img := format(t, "--type luks2 "+cheap)
	img.addKey(t, "--key-slot 7 "+cheap)
	cryptsetup(t, "", "config", "--key-slot", "7", "--priority", "prefer", img.path)
	h, err := readHeader(headerSource{at: img.open(t), dataSize: imageSize})
	if err != nil || len(h.slots) != 2 || h.slots[0].number != 7 {
		t.Errorf("got %+v, %v", h, err)
	}
	cryptsetup(t, "", "config", "--key-slot", "7", "--priority", "ignore", img.path)
	if _, err := img.verify(t, second); err == nil {
		t.Error("a slot that is to be ignored was opened")
	}
}

func TestPersistentFlagsBecomeThoseOfTheKernel(t *testing.T) {
	got := persistentFlags([]string{"allow-discards", "no-read-workqueue", "from-the-future", "allow-discards"})
	if diff := cmp.Diff([]string{"allow_discards", "no_read_workqueue"}, got); diff != "" {
		t.Error(diff)
	}
}
