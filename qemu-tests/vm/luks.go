package vm

import (
	"crypto/aes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/xts"
)

// LUKS is an encrypted volume made by cryptsetup, with no device mapper: luksFormat writes the header into the image, and
// the content is encrypted here, with the volume key that luksFormat was given (aes-xts-plain64, 512 bits).
// Keys go to cryptsetup by pipes, never by its command line or a file.
type LUKS struct {
	Version int      // 1 or 2; 2 if zero
	Keys    [][]byte // one slot each, at least one
	KDF     string   // "pbkdf2" (the default, with the fewest iterations), "argon2id", "argon2i"
	// MemoryKiB that argon2 takes; 65536 if zero.
	MemoryKiB int
	// Lanes is argon2's parallelism; 1 if zero.
	Lanes int
	// SectorSize of the encryption in bytes, 512 (the default) to 4096; LUKS2 only.
	SectorSize int
	Label      string // LUKS2 only
	UUID       string // random if empty
	// Header is the path of a detached header, which is created; the content then starts at the image's first byte.
	Header string
	// VolumeKey of 64 bytes; random if empty.
	VolumeKey []byte
	Content
}

func (l LUKS) fill(path string) error {
	if len(l.Keys) == 0 {
		return fmt.Errorf("LUKS: a volume needs a key")
	}
	volumeKey := l.VolumeKey
	if len(volumeKey) == 0 {
		volumeKey = make([]byte, 64)
		if _, err := rand.Read(volumeKey); err != nil {
			return err
		}
	}
	args := append([]string{"luksFormat", "--batch-mode", "--key-file", "-", "--volume-key-file", "/dev/fd/3",
		"--cipher", "aes-xts-plain64", "--key-size", "512", "--use-urandom"}, l.kdf()...)
	version := l.Version
	if version == 0 {
		version = 2
	}
	args = append(args, "--type", fmt.Sprintf("luks%d", version))
	if version == 2 {
		// Left to itself, cryptsetup takes what suits the medium.
		args = append(args, "--sector-size", strconv.Itoa(max(l.SectorSize, 512)))
	}
	if l.Label != "" {
		args = append(args, "--label", l.Label)
	}
	if l.UUID != "" {
		args = append(args, "--uuid", l.UUID)
	}
	header := path
	if l.Header != "" {
		header = l.Header
		args = append(args, "--header", header)
	}
	if _, err := tool("cryptsetup-bin", l.Keys[0], [][]byte{volumeKey}, "cryptsetup", append(args, path)...); err != nil {
		return err
	}
	for _, key := range l.Keys[1:] {
		args := append([]string{"luksAddKey", "--batch-mode", "--key-file", "-"}, l.kdf()...)
		if _, err := tool("cryptsetup-bin", l.Keys[0], [][]byte{key}, "cryptsetup", append(args, header, "/dev/fd/3")...); err != nil {
			return err
		}
	}
	if l.Content == nil {
		return nil
	}
	offset, err := payloadOffset(header, version)
	if err != nil {
		return err
	}
	return l.encrypt(path, offset, volumeKey)
}

func (l LUKS) kdf() []string {
	switch l.KDF {
	case "", "pbkdf2":
		return []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}
	}
	memory := l.MemoryKiB
	if memory == 0 {
		memory = 64 * 1024
	}
	return []string{"--pbkdf", l.KDF, "--pbkdf-memory", strconv.Itoa(memory), "--pbkdf-parallel", strconv.Itoa(max(l.Lanes, 1)), "--pbkdf-force-iterations", "4"}
}

// payloadOffset gives where the volume's data starts, in bytes.
func payloadOffset(header string, version int) (int64, error) {
	if version == 1 {
		text, err := tool("cryptsetup-bin", nil, nil, "cryptsetup", "luksDump", header)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if sectors, ok := strings.CutPrefix(line, "Payload offset:"); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(sectors), 10, 64)
				return n * 512, err
			}
		}
		return 0, fmt.Errorf("LUKS: cryptsetup luksDump shows no payload offset")
	}
	text, err := tool("cryptsetup-bin", nil, nil, "cryptsetup", "luksDump", "--dump-json-metadata", header)
	if err != nil {
		return 0, err
	}
	var metadata struct {
		Segments map[string]struct {
			Offset string `json:"offset"`
		} `json:"segments"`
	}
	if err := json.Unmarshal(text, &metadata); err != nil {
		return 0, fmt.Errorf("LUKS: read cryptsetup's metadata: %w", err)
	}
	return strconv.ParseInt(metadata.Segments["0"].Offset, 10, 64)
}

// encrypt makes the content in a file of its own and writes it through dm-crypt's aes-xts-plain64: the tweak is the number of
// the 512-byte sector where each encryption sector starts (dm-crypt's plain64, without iv_large_sectors). Zeros are
// encrypted too: a file system relies on what it left untouched.
func (l LUKS) encrypt(path string, offset int64, key []byte) error {
	cipher, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	size := info.Size() - offset
	plain := path + ".plain"
	defer os.Remove(plain)
	if err := sparse(plain, size); err != nil {
		return err
	}
	if err := l.Content.fill(plain); err != nil {
		return err
	}
	in, err := os.Open(plain)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	sector := int64(max(l.SectorSize, 512))
	buf := make([]byte, MiB)
	for at := int64(0); at < size; {
		n, err := in.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && int64(n) < size-at && n < len(buf) {
			return err
		}
		n -= n % int(sector)
		if n == 0 {
			break // less than one sector at the end is no part of the volume
		}
		for i := int64(0); i < int64(n); i += sector {
			cipher.Encrypt(buf[i:i+sector], buf[i:i+sector], uint64((at+i)/512))
		}
		if _, err := out.WriteAt(buf[:n], offset+at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
