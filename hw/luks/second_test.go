//go:build !guest

package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestTheSecondHeaderOpensAVolumeWhoseFirstIsDamaged(t *testing.T) {
	for _, row := range []struct {
		name   string
		offset int64
		with   []byte
		want   string
	}{
		{"in its JSON", 5000, []byte("x"), "its checksum is wrong"},
		{"in its binary part", 20, []byte{9}, "its checksum is wrong"},
		{"in its version", 7, []byte{9}, "version 9 is neither 1 nor 2"},
		{"in its size", 8, bytes.Repeat([]byte{0xff}, 8), "a header of 18446744073709551615 bytes at byte 0"},
		{"altogether", 0, make([]byte, binarySize), "it is not there"},
	} {
		for _, size := range []string{"16384", "65536"} {
			t.Run(row.name+", headers of "+size, func(t *testing.T) {
				img := format(t, "--type luks2 --luks2-metadata-size "+size+" "+cheap)
				before, err := img.verify(t, first)
				if err != nil || before.Secondary || before.Damage != "" {
					t.Fatal(before, err)
				}
				img.damage(t, row.offset, row.with)
				after, err := Verify(t.Context(), VerifyRequest{
					Header: img.open(t), DataSize: imageSize, Keys: keys(t, first), Foreign: nothingForeign,
				})
				before.Secondary, before.Damage = true, row.want
				if err != nil || after != before {
					t.Errorf("got %+v, %v, want %+v", after, err, before)
				}
			})
		}
	}
}

func TestADamagedSecondHeaderIsSaidAndTheFirstIsUsed(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(raw []byte)
		want   string
	}{
		{"sound", func([]byte) {}, ""},
		{"a bit is flipped", func(raw []byte) { raw[16384+5000] ^= 1 }, "its checksum is wrong"},
		{"overwritten", func(raw []byte) { clear(raw[16384:]) }, "it is not there"},
		{"older", func(raw []byte) { binary.BigEndian.PutUint64(raw[16384+16:], 1); reseal(raw, 16384) }, "it is older"},
		{"another volume's", func(raw []byte) {
			copy(raw[16384+168:], "00000000-0000-4000-8000-000000000000")
			reseal(raw, 16384)
		}, "it is of the volume 00000000-0000-4000-8000-000000000000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			raw := capture(t, "luks2.img")
			row.change(raw)
			h, err := parse(raw)
			if err != nil || h.Secondary || h.Damage != row.want {
				t.Errorf("got %+v, %v", h, err)
			}
		})
	}
}

// mkfs leaves a second header behind where it happens not to write: that is no volume any more.
func TestTheSecondHeaderOfADeviceThatServesAnotherPurposeIsNotUsed(t *testing.T) {
	raw := capture(t, "luks2.img")
	clear(raw[:binarySize])
	for _, row := range []struct {
		name    string
		foreign func(io.ReaderAt) (string, error)
		code    string
		want    string
	}{
		{"a file system is there", func(io.ReaderAt) (string, error) { return "an ext4 file system", nil }, "LUKS-NOT-LUKS", "an ext4 file system"},
		{"nobody looked", nil, "LUKS-DAMAGED", "the second at byte 16384 is intact"},
		{"it cannot be told", func(io.ReaderAt) (string, error) { return "", io.ErrNoProgress }, "LUKS-DAMAGED", "cannot be told"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := readHeader(headerSource{at: bytes.NewReader(raw), dataSize: imageSize, foreign: row.foreign})
			coded, ok := err.(interface{ Code() string })
			if !ok || coded.Code() != row.code || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A probe that knows LUKS would name the second header, and look no further.
func TestAProbeIsShownNoSecondHeader(t *testing.T) {
	raw := capture(t, "luks2.img")
	clear(raw[:binarySize])
	seen := false
	_, err := readHeader(headerSource{at: bytes.NewReader(raw), dataSize: imageSize, foreign: func(r io.ReaderAt) (string, error) {
		seen = true
		if size := r.(*io.SectionReader).Size(); size != int64(len(raw)) {
			t.Errorf("a size of %d", size)
		}
		all := make([]byte, len(raw))
		for at := 0; at < len(all); at += 7 { // however it is read
			if _, err := r.ReadAt(all[at:min(at+7, len(all))], int64(at)); err != nil {
				return "", err
			}
		}
		if bytes.Contains(all, magicSecond) || !bytes.Contains(all, []byte("keyslots")) {
			t.Error("the second header is shown, or more than it is hidden")
		}
		return "", nil
	}})
	if err != nil || !seen {
		t.Errorf("got %v", err)
	}
}

func TestTheNewerOfTwoGoodHeadersCounts(t *testing.T) {
	for _, row := range []struct {
		name      string
		sequence  uint64
		uuid      string
		secondary bool
	}{
		{"an older second", 1, "", false},
		{"a newer second, after a power cut between two writes", 1 << 40, "", true},
		{"a newer second of another volume", 1 << 40, "00000000-0000-4000-8000-000000000000", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			raw := capture(t, "luks2.img")
			binary.BigEndian.PutUint64(raw[16384+16:], row.sequence)
			copy(raw[16384+168:], row.uuid)
			reseal(raw, 16384)
			h, err := parse(raw)
			if err != nil || h.Secondary != row.secondary {
				t.Errorf("got %+v, %v", h, err)
			}
		})
	}
}

// failing is a device with a bad sector.
type failing struct {
	io.ReaderAt
	from, to int64
}

func (f failing) ReadAt(b []byte, at int64) (int, error) {
	if at < f.to && at+int64(len(b)) > f.from {
		return 0, syscall.EIO
	}
	return f.ReaderAt.ReadAt(b, at)
}

func TestABadSectorIsNotTakenForAnEmptyDevice(t *testing.T) {
	raw := capture(t, "luks2.img")
	source := headerSource{at: failing{bytes.NewReader(raw), 0, 512}, dataSize: imageSize, foreign: nothingForeign}
	if h, err := readHeader(source); err != nil || !h.Secondary {
		t.Errorf("with a second header: got %+v, %v", h, err)
	}
	source.at = failing{bytes.NewReader(raw[:16384]), 0, 512}
	if _, err := readHeader(source); !errors.Is(err, syscall.EIO) {
		t.Errorf("without: got %v", err)
	}
}

func TestAVolumeThatIsCutOffIsRefused(t *testing.T) {
	img := format(t, "--type luks2 "+cheap)
	for _, row := range []struct {
		size int64 // smaller and smaller
		want string
	}{
		{16 << 20, "begins at byte 16777216"},
		{40 << 10, "begins at byte 16777216"}, // both headers and no slots
		{20 << 10, "begins at byte 16777216"},
		{100, "cut off after 100 bytes"},
	} {
		size, want := row.size, row.want
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			if err := os.Truncate(img.path, size); err != nil {
				t.Fatal(err)
			}
			_, err := Verify(t.Context(), VerifyRequest{Header: img.open(t), DataSize: uint64(size), Keys: keys(t, first)})
			if _, ok := errors.AsType[*DamagedError](err); !ok || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestADetachedHeaderWithoutItsSlotsIsRefused(t *testing.T) {
	img := format(t, "--type luks2 --header "+cheap)
	if err := os.Truncate(img.header, 64<<10); err != nil {
		t.Fatal(err)
	}
	_, err := img.verify(t, first)
	if _, ok := errors.AsType[*DamagedError](err); !ok || !strings.Contains(err.Error(), "the area of the slot: it is cut off") {
		t.Errorf("got %v", err)
	}
}
