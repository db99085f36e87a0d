package nvmeof

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"initd/hw/sysfs"
)

// Host is a machine's identity. The kernel takes one ID for one NQN: what has been connected with another pair is EINVAL.
type Host struct {
	NQN string `json:"nqn"`
	ID  string `json:"id"` // a UUID in lower case
}

const uuidNQN = "nqn.2014-08.org.nvmexpress:uuid:"

// HostOf is the identity that a UUID makes.
func HostOf(uuid string) Host {
	uuid = strings.ToLower(uuid)
	return Host{NQN: uuidNQN + uuid, ID: uuid}
}

// Check says what is wrong with an identity, if anything.
func (h Host) Check() error {
	if err := CheckNQN(h.NQN); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	if !usableUUID(h.ID) {
		return fmt.Errorf("host ID %q is no UUID that can tell machines apart", h.ID)
	}
	return nil
}

// usableUUID refuses what is no UUID, and what firmware has in the place of one: all zeros, all ones, counted digits.
func usableUUID(s string) bool {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	var zeros, ones int
	for _, x := range b {
		switch x {
		case 0:
			zeros++
		case 0xff:
			ones++
		}
	}
	return zeros < 16 && ones < 16 && !strings.EqualFold(s, "03000200-0400-0500-0006-000700080009")
}

// Identity is where the host's identity may come from.
type Identity struct {
	// Sys is the root of /sys, for DMI.
	Sys *sysfs.FS
	// Dirs hold the files hostnqn and hostid, as /etc/nvme does; the first that has one is taken.
	Dirs []string
	// Keep is where an identity that had to be made up is kept; "" keeps none.
	Keep string
}

// Find gives the host's identity, and where it is from, in words. A file that is there and no good is an error: going on under
// another name would be refused by targets, with no one knowing why.
func (i Identity) Find() (Host, string, error) {
	for _, dir := range i.Dirs {
		h, err := readIdentity(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return Host{}, "", err
		default:
			return h, dir, nil
		}
	}
	if i.Sys != nil {
		if id := dmiUUID(i.Sys); id != "" {
			return HostOf(id), "the machine's UUID", nil
		}
	}
	h := HostOf(randomUUID())
	if i.Keep == "" {
		return h, "made up for now", nil
	}
	if err := h.Keep(i.Keep); err != nil {
		return h, "made up for now", fmt.Errorf("the host's identity is made up, and cannot be kept: %w", err)
	}
	return h, "made up, and kept in " + i.Keep, nil
}

func readIdentity(dir string) (Host, error) {
	nqn, err1 := readLine(filepath.Join(dir, "hostnqn"))
	id, err2 := readLine(filepath.Join(dir, "hostid"))
	for _, err := range []error{err1, err2} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Host{}, fmt.Errorf("the host's identity: %w", err)
		}
	}
	id = strings.ToLower(id)
	switch {
	case nqn == "" && id == "":
		return Host{}, fs.ErrNotExist
	case nqn == "":
		nqn = uuidNQN + id
	case id == "":
		uuid, ok := strings.CutPrefix(nqn, uuidNQN)
		if !ok {
			return Host{}, fmt.Errorf("the host's identity: %s/hostnqn is not made of a UUID, so %s/hostid has to be there too", dir, dir)
		}
		id = strings.ToLower(uuid)
	}
	h := Host{NQN: nqn, ID: id}
	if err := h.Check(); err != nil {
		return Host{}, fmt.Errorf("the host's identity in %s: %w", dir, err)
	}
	return h, nil
}

// maxIdentityFile bounds the files, in bytes.
const maxIdentityFile = 4096

func readLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, maxIdentityFile)
	n, err := f.Read(b)
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return strings.TrimSpace(line), nil
}

// Keep writes the files hostnqn and hostid to dir, each atomically.
func (h Host) Keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The ID first: without it, the NQN alone still says both.
	if err := renameio.WriteFile(filepath.Join(dir, "hostid"), []byte(h.ID+"\n"), 0o644); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, "hostnqn"), []byte(h.NQN+"\n"), 0o644)
}

// dmiUUID is the machine's UUID as its firmware says, "" without a usable one.
func dmiUUID(f *sysfs.FS) string {
	if s, err := f.String("sys/class/dmi/id/product_uuid"); err == nil && usableUUID(s) {
		return strings.ToLower(s)
	}
	// SMBIOS 3.4, section 7.2.1: the UUID is at offset 8 of the structure, its first three fields little-endian.
	b, err := f.Bytes("sys/firmware/dmi/entries/1-0/raw", sysfs.MaxAttribute)
	if err != nil || len(b) < 24 {
		return ""
	}
	u := b[8:24]
	s := formatUUID([16]byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]})
	if !usableUUID(s) {
		return ""
	}
	return s
}

// randomUUID is one of version 4 (RFC 9562, section 5.4).
func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails, crypto/rand says
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
