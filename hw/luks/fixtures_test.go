package luks

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"initd/hw/secret"
)

// The oracle of every test here is Debian's cryptsetup; luks.go is the second opinion.

const (
	first  = "the first passphrase"
	second = "the second passphrase, which is longer"
	wrong  = "neither of them"

	imageSize = 20 << 20
	costs     = "--pbkdf-memory 65536 --pbkdf-force-iterations 4" // argon2: 64 MiB, 4 passes
	cheap     = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
)

// cryptsetup runs it with key on standard input.
func cryptsetup(t testing.TB, key string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("cryptsetup")
	if err != nil {
		t.Fatal("cryptsetup is missing: install the Debian package cryptsetup-bin")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--batch-mode"}, args...)...)
	cmd.Stdin = strings.NewReader(key)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cryptsetup %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// image is a file with a LUKS volume.
type image struct {
	path, header string // header is "" unless it is detached
}

// format makes one whose first slot opens with first. Detached headers are asked for by "--header".
func format(t testing.TB, options string) image {
	t.Helper()
	img := image{path: filepath.Join(t.TempDir(), "data.img")}
	if err := os.WriteFile(img.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img.path, imageSize); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(options)
	if i := slices.Index(words, "--header"); i >= 0 {
		img.header = filepath.Join(filepath.Dir(img.path), "header.img")
		words = slices.Insert(words, i+1, img.header)
	}
	cryptsetup(t, first, append([]string{"luksFormat", "--key-file", "-", img.path}, words...)...)
	return img
}

// addKey adds a slot with the given options that opens with second.
func (img image) addKey(t testing.TB, options string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, first, append([]string{"luksAddKey", "--key-file", "-", img.at(), file}, strings.Fields(options)...)...)
}

// at is the file that holds the header.
func (img image) at() string {
	if img.header != "" {
		return img.header
	}
	return img.path
}

func (img image) open(t testing.TB) *os.File {
	t.Helper()
	file, err := os.Open(img.at())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// volumeKey is what cryptsetup says it is.
func (img image) volumeKey(t testing.TB) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "volume-key")
	cryptsetup(t, first, "luksDump", "--dump-volume-key", "--volume-key-file", file, "--key-file", "-", img.at())
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dumped is what luksDump of cryptsetup prints, as far as it is compared.
func (img image) dumped(t testing.TB) Verified {
	t.Helper()
	out := cryptsetup(t, "", "luksDump", img.at())
	find := func(expression string) string {
		found := regexp.MustCompile(`(?m)` + expression).FindStringSubmatch(out)
		if found == nil {
			return ""
		}
		return found[1]
	}
	number := func(expression string) int {
		n, err := strconv.Atoi(find(expression))
		if err != nil {
			t.Fatalf("%s is not in the dump:\n%s", expression, out)
		}
		return n
	}
	v := Verified{UUID: find(`^UUID:\s+(\S+)`), Version: number(`^Version:\s+(\d+)`)}
	if v.Version == 1 {
		v.Cipher = find(`^Cipher name:\s+(\S+)`) + "-" + find(`^Cipher mode:\s+(\S+)`)
		v.SectorSize, v.Offset, v.KeySize = 512, uint64(number(`^Payload offset:\s+(\d+)`))*512, number(`^MK bits:\s+(\d+)`)/8
	} else {
		v.Cipher = find(`^\s+cipher: (\S+)`)
		v.SectorSize, v.Offset = uint64(number(`^\s+sector: (\d+)`)), uint64(number(`^\s+offset: (\d+)`))
		v.KeySize = number(`^\s+Key:\s+(\d+) bits`) / 8
	}
	v.Length = imageSize - v.Offset
	return v
}

// Captures of what cryptsetup 2.6.1 wrote, up to where the key slots begin. The device had imageSize bytes.
func capture(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "headers", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func nothingForeign(io.ReaderAt) (string, error) { return "", nil }

// sealed are keys as they travel.
func sealed(t testing.TB, texts ...string) []*os.File {
	t.Helper()
	var files []*os.File
	for _, text := range texts {
		file, err := secret.Seal("key", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		files = append(files, file)
	}
	return files
}
