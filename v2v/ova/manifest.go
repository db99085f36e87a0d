package ova

import (
	"context"
	"crypto/sha1" //nolint:gosec // a checksum that older manifests have
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"

	"initd/v2v/image"
)

// Digest is a line of a manifest: the algorithm (SHA1, SHA256, SHA512) and the sum in lower-case hexadecimal digits.
type Digest struct{ Algorithm, Sum string }

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "SHA1":
		return sha1.New() //nolint:gosec // see above
	case "SHA256":
		return sha256.New()
	case "SHA512":
		return sha512.New()
	}
	return nil
}

// parseManifest reads lines like `SHA256(disk.vmdk)= 0123…`.
func (a *Archive) parseManifest(text []byte) (map[string]Digest, error) {
	out := map[string]Digest{}
	for i, line := range strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		algorithm, rest, ok := strings.Cut(line, "(")
		end := strings.LastIndex(rest, ")")
		if !ok || end < 0 {
			return nil, a.corrupt("ova-manifest", "line %d of the manifest is not like SHA256(name)= sum", i+1)
		}
		file := path.Clean(rest[:end])
		sum, ok := strings.CutPrefix(strings.TrimSpace(rest[end+1:]), "=")
		d := Digest{strings.ToUpper(strings.TrimSpace(algorithm)), strings.ToLower(strings.TrimSpace(sum))}
		h := newHash(d.Algorithm)
		if h == nil {
			return nil, &image.Error{Fault: image.Unsupported, Code: "ova-manifest-algorithm", Image: a.img, Format: name, What: fmt.Sprintf("the manifest has digests of the kind %.20q; SHA1, SHA256 and SHA512 are known", d.Algorithm)}
		}
		if b, err := hex.DecodeString(d.Sum); !ok || err != nil || len(b) != h.Size() {
			return nil, a.corrupt("ova-manifest", "line %d of the manifest has no %s", i+1, d.Algorithm)
		}
		if _, twice := out[file]; twice {
			return nil, a.corrupt("ova-manifest", "the manifest has %.200q twice", file)
		}
		out[file] = d
	}
	return out, nil
}

// setManifest takes the manifest; nil is none. What it lists has to be there, and what the disks need has to be listed.
func (a *Archive) setManifest(text []byte) error {
	if text == nil {
		if slices.ContainsFunc(a.Members, func(m Member) bool { return ext(m.Name) == ".mf" }) {
			text = []byte{}
		} else {
			a.Warnings = append(a.Warnings, "it has no manifest: nothing says whether its disks are as they were made")
			return nil
		}
	}
	m, err := a.parseManifest(text)
	if err != nil {
		return err
	}
	a.Manifest = m
	for file := range m {
		_, there := a.member(file)
		if _, below := a.member(a.inFolder(file)); !there && !below {
			return a.corrupt("ova-manifest-file", "the manifest lists %.200q, and the archive does not have it", file)
		}
	}
	need := []string{a.ovf}
	for _, d := range a.Disks {
		if d.File != "" {
			need = append(need, d.File)
		}
	}
	for _, n := range need {
		if _, listed := a.digest(n); !listed {
			return a.corrupt("ova-manifest-missing", "the manifest does not list %.200q", n)
		}
	}
	return nil
}

// sums computes all digests at once: in a stream the manifest may come last.
type sums map[string]hash.Hash

func allSums() sums {
	return sums{"SHA1": newHash("SHA1"), "SHA256": newHash("SHA256"), "SHA512": newHash("SHA512")}
}

func (s sums) Write(p []byte) (int, error) {
	for _, h := range s {
		_, _ = h.Write(p)
	}
	return len(p), nil
}

func (s sums) get(algorithm string) string {
	h, ok := s[algorithm]
	if !ok {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

func digestsOf(b []byte) sums {
	s := allSums()
	_, _ = s.Write(b)
	return s
}

// compare holds what was computed of a member against the manifest.
func (a *Archive) compare(file string, s sums) error {
	want, ok := a.digest(file)
	if !ok {
		return nil
	}
	if got := s.get(want.Algorithm); got != want.Sum {
		return a.corrupt("ova-digest", "the %s of %s is %s, and the manifest says %s: it was changed or damaged on its way", want.Algorithm, file, got, want.Sum)
	}
	return nil
}

// Verify reads a member of the archive and compares its digest with the manifest. Without a manifest it does nothing.
func (a *Archive) Verify(ctx context.Context, src image.Source, file string) error {
	want, ok := a.digest(file)
	m, there := a.member(file)
	if !ok || !there {
		return nil
	}
	s := sums{want.Algorithm: newHash(want.Algorithm)}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < m.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), m.Size-at)]
		if n, err := src.ReadAt(p, m.Offset+at); n < len(p) && err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: ova: read %s: %w", a.img, file, err)
		} else if n < len(p) {
			return a.corrupt("ova-truncated", "the archive ends in %q", file)
		}
		_, _ = s.Write(p)
		at += int64(len(p))
	}
	return a.compare(file, s)
}
