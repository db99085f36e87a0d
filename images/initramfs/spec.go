// Package initramfs makes the archive that a kernel unpacks and runs /init from.
//
// It owns what goes in: init and initd, the appliance's file, the kernel modules with all that they need, files, and
// programs of Debian packages with interpreter, libraries and accounts; and it accounts for each file: who asked for it,
// where it comes from, what it costs. The same Spec over the same inputs gives the same bytes. It never puts in a secret
// or an identity, never runs what it packs, and never installs anything on the machine that it runs on.
package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"initd/images/cpio"
	"initd/images/debian"
)

// Ask is a wish with the one who has it: a module, a program, a package, an account.
type Ask struct {
	Name string // "dm-crypt", "fsck.ext4", "/usr/bin/redis-cli", "redis-server"
	By   string // "luks/tank0", "image.packages"
}

// File is a file to copy in.
type File struct {
	From string // on this machine
	To   string // absolute
	Mode fs.FileMode
	By   string
}

// Text is a small file whose content is at hand: the appliance's file and its layers.
type Text struct {
	To      string // absolute
	Content []byte
	By      string
}

// Spec says what an image shall hold.
type Spec struct {
	Init  string // the program that becomes /init
	Initd string // the program that becomes /usr/bin/initd; the orchestrator makes /usr/sbin/modprobe a link to it
	Texts []Text
	Files []File
	// Modules are names or aliases that the kernel must have, as modules or built in.
	Modules []Ask
	// Drivers is one of DriverSets; empty is "base".
	Drivers string
	// ModulesDir is lib/modules/RELEASE of the kernel that will boot the image; may be empty if no module is asked for.
	ModulesDir string
	Release    string // its last element, if empty
	Programs   []Ask  // by name, or by absolute path
	// Own are programs of this project, by their place in an image, such as /usr/bin/v2v: where something asks for one, and no file of the
	// user's is there, this file of this machine goes in.
	Own      map[string]string
	Packages []Ask // Debian packages that go in with their programs, configuration and accounts
	Users    []Ask // accounts that have to exist
	// HostRoots are folders in which programs and libraries are looked for before any package is fetched.
	HostRoots []string
	// Cache holds fetched packages.
	Cache string
	// Log, if set, hears what takes time.
	Log func(format string, args ...any)
}

// Image is a finished set of files.
type Image struct {
	Release string
	Files   []Entry // sorted by path
	// Notes say what a reader should know, though the image is whole: a link that leads nowhere, a script without its
	// interpreter, a module that this kernel does not have.
	Notes []string

	archive cpio.Archive
}

// Entry is a file of an image and why it is there.
type Entry struct {
	Path   string `json:"path"`
	Type   string `json:"type"` // file, folder, link, device
	Mode   string `json:"mode"` // octal
	Owner  string `json:"owner"`
	Size   int64  `json:"size"` // bytes of content in the archive, before it is compressed
	Target string `json:"target,omitempty"`
	By     string `json:"by"`
	From   string `json:"from"` // the package with its version, a file of this machine, or "made"
}

// Build collects all that spec asks for. The error joins everything that is wrong with the request itself.
func Build(ctx context.Context, spec Spec) (*Image, error) {
	b := &builder{spec: spec, tree: tree{}, repo: &debian.Repository{Cache: spec.Cache, Log: spec.Log}}
	var errs []error
	for _, step := range []func(context.Context) error{
		b.addBase, b.addTexts, b.addFiles, b.addModules, b.addPackages, b.addPrograms,
	} {
		errs = append(errs, step(ctx))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{b.addNeeds, b.addSetup} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return b.image()
}

// Write writes the image's bytes.
func (m *Image) Write(w io.Writer, c cpio.Compression) error { return m.archive.WriteCompressed(w, c) }

// builder is one run of Build.
type builder struct {
	spec    Spec
	tree    tree
	repo    *debian.Repository
	release string
	notes   []string

	roots    []string         // packages whose dependencies may be searched
	closure  []debian.Control // of roots; nil: not asked for yet
	accounts *accounts
	packages []contribution // those with files in the tree
	needed   []need         // work of addNeeds
}

// contribution is a package and who made it come first.
type contribution struct {
	*debian.Package
	by string
}

func (b *builder) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(b.notes, n) {
		b.notes = append(b.notes, n)
	}
}

func (b *builder) image() (*Image, error) {
	m := &Image{Release: b.release, Notes: b.notes}
	for _, path := range b.tree.paths() {
		n := b.tree[path]
		e, err := b.entry(n)
		if err != nil {
			return nil, err
		}
		if err := m.archive.Add(e); err != nil {
			return nil, err
		}
		m.Files = append(m.Files, Entry{
			Path: n.path, Type: kindName(n.mode), Mode: fmt.Sprintf("%04o", octal(n.mode)), Owner: n.owner + ":" + n.group,
			Size: e.Size, Target: n.target, By: n.by, From: n.from,
		})
	}
	return m, nil
}

// hostFile returns a node for a file of this machine.
func hostFile(from, to string, mode fs.FileMode, by string) (*node, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("put %s into the image for %s: %w", to, by, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("put %s into the image for %s: %s is not a regular file", to, by, from)
	}
	return &node{path: to, mode: mode, owner: "root", group: "root", size: info.Size(), disk: from, by: by, from: from}, nil
}
