package bench

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mixed writes a disk of 42 % text, 27 % random bytes and 31 % zeros, in pieces of 64 KiB to 4 MiB. The text is the source of Go's
// standard library: real, and the same everywhere.
func mixed(b *testing.B, path string, length int64) {
	b.Helper()
	text := source(b)
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(length); err != nil {
		b.Fatal(err)
	}
	g, noise := rand.New(rand.NewPCG(1, 2)), rand.NewChaCha8([32]byte{1})
	piece := make([]byte, 4*mib)
	at := 0
	for off := int64(0); off < length; {
		p := piece[:min(length-off, 65536*(1+g.Int64N(64)))]
		switch kind := g.IntN(100); {
		case kind < 42:
			for n := 0; n < len(p); {
				k := copy(p[n:], text[at:])
				n, at = n+k, (at+k)%len(text)
			}
		case kind < 69:
			if _, err := noise.Read(p); err != nil {
				b.Fatal(err)
			}
		default:
			// Zeros that are written: leaving them out is part of the work.
			clear(p)
		}
		if _, err := f.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
		off += int64(len(p))
	}
}

func source(b *testing.B) []byte {
	b.Helper()
	var text []byte
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatalf("go env GOROOT: %v; install Go", err)
	}
	root := filepath.Join(strings.TrimSpace(string(goroot)), "src")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || len(text) > 64*mib {
			return err
		}
		p, err := os.ReadFile(path)
		text = append(text, p...)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if len(text) < 16*mib {
		b.Fatalf("only %d bytes of Go's source at %s: the text would repeat itself", len(text), root)
	}
	return text
}

// sparse writes a disk of 2 TiB with as much data as mixed has, spread over all of it.
func sparse(b *testing.B, from, path string) {
	b.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2 << 40); err != nil {
		b.Fatal(err)
	}
	const piece = mib
	step := int64(2<<40) / (int64(len(data)) / piece) / piece * piece
	for i := 0; i*piece < len(data); i++ {
		if _, err := f.WriteAt(data[i*piece:(i+1)*piece], int64(i)*step); err != nil {
			b.Fatal(err)
		}
	}
}
