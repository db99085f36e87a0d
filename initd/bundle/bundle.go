// Package bundle collects what somebody far away needs to understand a
// machine: one compressed archive, with a manifest that says what is in it and
// what was left out.
//
// It owns the list of what is collected, and the redaction. It reads kernel
// files, the orchestrator's own files and appliance files; it never opens a
// file that an appliance names (keys, certificates, configuration of
// services), never reads a key, and changes nothing. Everything is read with a
// limit of size and of time: what does not answer is left out, and said so.
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Schema names the form of a Manifest; fields are only ever added.
const Schema = "initd.bundle/v1"

// Manifest is what is in a bundle: its file manifest.json.
type Manifest struct {
	Schema  string    `json:"schema"`
	Name    string    `json:"name"` // of the machine
	Made    time.Time `json:"made"`
	Version string    `json:"version"` // of the initd that made it
	Files   []File    `json:"files"`
	LeftOut []LeftOut `json:"leftOut"`
}

// File is one file of the archive.
type File struct {
	Name string `json:"name"`
	Size int    `json:"size"` // bytes
	What string `json:"what"`
	Cut  bool   `json:"cut,omitempty"` // only its end is here, or only its beginning
}

// LeftOut is what is not there, and why.
type LeftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// never is what no bundle holds, for whoever reads it and wonders.
var never = [...]LeftOut{
	{"keys, certificates and other files that the appliance names", "identity is never collected"},
	{"environment and arguments of processes", "services may have secrets there"},
	{"passwords, password hashes, private keys and user names in URLs", "replaced by " + Redacted},
}

// Machine is where to look.
type Machine struct {
	Root    string // "/"
	Run     string // the orchestrator's folder, below no Root: /run/initd
	File    string // the image's appliance file, below no Root
	Version string // of this program
	// Logs returns the last lines of a service, from a running orchestrator;
	// an error without one.
	Logs func(ctx context.Context, service string) (string, error)
}

// Write collects and writes the archive (tar, gzip).
func Write(ctx context.Context, m Machine, w io.Writer) (Manifest, error) {
	c := &collection{
		machine:  m,
		manifest: Manifest{Schema: Schema, Made: time.Now().UTC().Truncate(time.Second), Version: m.Version, LeftOut: never[:]},
	}
	c.all(ctx)
	if err := ctx.Err(); err != nil {
		return c.manifest, context.Cause(ctx)
	}
	text, err := json.MarshalIndent(c.manifest, "", "  ")
	if err != nil {
		return c.manifest, err
	}
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	err = c.put(archive, "manifest.json", append(text, '\n'))
	for i, f := range c.manifest.Files {
		err = errors.Join(err, c.put(archive, f.Name, c.content[i]))
	}
	return c.manifest, errors.Join(err, archive.Close(), zip.Close())
}

func (c *collection) put(w *tar.Writer, name string, content []byte) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: "support/" + name, Mode: 0o600,
		Size: int64(len(content)), ModTime: c.manifest.Made, Format: tar.FormatUSTAR,
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// collection is a bundle in the making.
type collection struct {
	machine  Machine
	manifest Manifest
	content  [][]byte // of manifest.Files
}

// Limits of one part.
const (
	maxPart  = 16 << 20 // bytes
	partTime = 10 * time.Second
)

// add collects one part. What get does may block for good: it is waited for
// partTime, and left behind then.
func (c *collection) add(ctx context.Context, name, what string, get func(context.Context) ([]byte, error)) []byte {
	type result struct {
		b   []byte
		err error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, partTime, fmt.Errorf("it did not answer within %s", partTime))
	defer cancel()
	done := make(chan result, 1)
	go func() {
		b, err := get(ctx)
		done <- result{b, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		c.leaveOut(name+" ("+what+")", r.err)
		return nil
	}
	f := File{Name: name, What: what}
	if len(r.b) > maxPart {
		r.b, f.Cut = r.b[len(r.b)-maxPart:], true
	}
	f.Size = len(r.b)
	c.manifest.Files = append(c.manifest.Files, f)
	c.content = append(c.content, r.b)
	return r.b
}

func (c *collection) leaveOut(what string, why error) {
	c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{what, why.Error()})
}

// read returns a regular file; a link to somewhere else is not followed. Of
// more than maxPart bytes it has the end.
func read(path string) ([]byte, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Size() > maxPart {
		if _, err := f.Seek(-maxPart, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, maxPart+1))
}
