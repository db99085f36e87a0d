package debian

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// Package is the content of one package.
type Package struct {
	Control
	// Files are sorted by path.
	Files []File
	// Scripts are the maintainer scripts by name: postinst and preinst.
	Scripts map[string]string

	data string
}

// File is a regular file, a folder or a symbolic link of a package.
type File struct {
	// Path is absolute, with bin, sbin and lib below /usr: as on a merged system, where /bin is a link to usr/bin.
	Path  string      `json:"path"`
	Mode  fs.FileMode `json:"mode"`
	Owner string      `json:"owner"` // by name
	Group string      `json:"group"`
	Size  int64       `json:"size,omitempty"`
	// Target of a symbolic link, as it is written.
	Target string `json:"target,omitempty"`
	// Content is where a regular file's bytes are, below the package's folder in the cache.
	Content string `json:"content,omitempty"`
}

// Find returns the file at an absolute path.
func (p *Package) Find(name string) (File, bool) {
	i, ok := slices.BinarySearchFunc(p.Files, name, func(f File, name string) int { return strings.Compare(f.Path, name) })
	if !ok {
		return File{}, false
	}
	return p.Files[i], true
}

// Disk returns where the bytes of a regular file are on this machine.
func (p *Package) Disk(f File) string { return filepath.Join(p.data, f.Content) }

// maxPackage bounds what a package may unpack to, in bytes.
const maxPackage = 4 << 30

// unpack reads a package's file into a folder below dir, once: a folder that is there is whole.
func unpack(ctx context.Context, c Control, file, dir string) (*Package, error) {
	p := &Package{Control: c, data: filepath.Join(dir, strings.TrimSuffix(filepath.Base(file), ".deb"))}
	// The checksum tells a rebuilt package of the same version apart.
	p.data += "_" + c.SHA256[:min(12, len(c.SHA256))]
	index := filepath.Join(p.data, "index.json")
	if b, err := os.ReadFile(index); err == nil {
		var whole struct {
			Files   []File
			Scripts map[string]string
		}
		if err := json.Unmarshal(b, &whole); err == nil {
			p.Files, p.Scripts = whole.Files, whole.Scripts
			return p, nil
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(dir, "new-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := p.readData(ctx, file, work); err != nil {
		return nil, err
	}
	if err := p.readScripts(ctx, file); err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		Files   []File
		Scripts map[string]string
	}{p.Files, p.Scripts})
	if err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(filepath.Join(work, "index.json"), b, 0o644); err != nil {
		return nil, err
	}
	// Somebody may have unpacked the same meanwhile: then theirs is as good.
	if err := os.Rename(work, p.data); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return p, nil
}

// stream reads what dpkg-deb writes about file as a tar archive.
func stream(ctx context.Context, file, option string, each func(*tar.Header, io.Reader) error) error {
	program, err := exec.LookPath("dpkg-deb")
	if err != nil {
		return errors.New("dpkg-deb is not on this machine: packages are put into images on a Debian machine")
	}
	cmd := exec.CommandContext(ctx, program, option, file)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = eachEntry(out, each)
	if err == nil {
		_, err = io.Copy(io.Discard, out)
	} else {
		cmd.Process.Kill() //nolint:errcheck // it may have ended by itself
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("dpkg-deb: %w: %s", werr, strings.TrimSpace(said.String()))
	}
	return err
}

func eachEntry(r io.Reader, each func(*tar.Header, io.Reader) error) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(h, archive); err != nil {
			return err
		}
	}
}

// readData writes the bytes of regular files to numbered files in work and fills in p.Files.
func (p *Package) readData(ctx context.Context, file, work string) error {
	byPath := map[string]File{}
	var total int64
	err := stream(ctx, file, "--fsys-tarfile", func(h *tar.Header, content io.Reader) error {
		f := File{Path: Merged(h.Name), Mode: h.FileInfo().Mode(), Owner: h.Uname, Group: h.Gname}
		switch h.Typeflag {
		case tar.TypeDir:
			if f.Path == "/" {
				return nil
			}
		case tar.TypeSymlink:
			f.Target = h.Linkname
		case tar.TypeLink:
			// A second name of a file that came before: the same bytes.
			first, ok := byPath[Merged(h.Linkname)]
			if !ok {
				return fmt.Errorf("%s is a hard link to %s, which is not there", h.Name, h.Linkname)
			}
			first.Path = f.Path
			f = first
		case tar.TypeReg:
			if total += h.Size; total > maxPackage {
				return fmt.Errorf("more than %d bytes", maxPackage)
			}
			f.Size, f.Content = h.Size, fmt.Sprintf("%06d", len(byPath))
			if err := write(filepath.Join(work, f.Content), content); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: kind %q is not put into images", h.Name, h.Typeflag)
		}
		byPath[f.Path] = f
		return nil
	})
	for _, f := range byPath {
		p.Files = append(p.Files, f)
	}
	slices.SortFunc(p.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return err
}

func write(name string, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// maxScript bounds a maintainer script, in bytes.
const maxScript = 1 << 20

func (p *Package) readScripts(ctx context.Context, file string) error {
	p.Scripts = map[string]string{}
	return stream(ctx, file, "--ctrl-tarfile", func(h *tar.Header, content io.Reader) error {
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || name != "postinst" && name != "preinst" {
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(content, maxScript))
		p.Scripts[name] = string(b)
		return err
	})
}

// Merged returns the absolute, clean path that name has on a merged system (/bin, /sbin and /lib* are links into /usr;
// Debian since 12).
func Merged(name string) string {
	name = path.Clean("/" + name)
	first, _, _ := strings.Cut(name[1:], "/")
	switch first {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return "/usr" + name
	}
	return name
}
