package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"initd/hw/kmod"
	"initd/images/cpio"
	"initd/qemu-tests/guest/plan"
)

// Image is an initramfs in the making. Its methods fail the test on errors, and return it for use in a chain.
type Image struct {
	t       testing.TB
	archive cpio.Archive
	merged  bool                   // /bin, /sbin, /lib and /lib64 are links into /usr
	carried map[string]kmod.Module // kernel modules, by name
	load    []string               // their files in the guest, in the order of loading
}

// NewOverlay starts with nothing: an archive to follow another one, such as one that initd-image has made, with the same merged
// /usr.
func NewOverlay(t testing.TB) *Image {
	return &Image{t: t, merged: true, carried: map[string]kmod.Module{}}
}

// NewImage starts with /dev/console, which the kernel opens before /init runs, the usual empty folders, and Debian's
// merged /usr: what is put into /lib lies in /usr/lib.
func NewImage(t testing.TB) *Image {
	t.Helper()
	i := &Image{t: t, carried: map[string]kmod.Module{}}
	for _, dir := range mergedDirs {
		i.must(i.archive.Symlink(dir, "usr"+dir))
		i.must(i.archive.Dir("/usr"+dir, 0o755))
	}
	i.merged = true
	i.must(i.archive.CharDevice("/dev/console", 0o600, 5, 1))
	i.must(i.archive.CharDevice("/dev/null", 0o666, 1, 3))
	for _, dir := range []string{"/proc", "/sys", "/run", "/mnt", "/var", "/root"} {
		i.must(i.archive.Dir(dir, 0o755))
	}
	i.must(i.archive.Dir("/tmp", fs.ModeSticky|0o777))
	return i
}

// mergedDirs are links into /usr on Debian (https://wiki.debian.org/UsrMerge).
var mergedDirs = [...]string{"/bin", "/sbin", "/lib", "/lib64"}

// at gives where a path lies in the image, past the links into /usr.
func (i *Image) at(path string) string {
	path = filepath.Join("/", path)
	for _, dir := range mergedDirs {
		if i.merged && (path == dir || strings.HasPrefix(path, dir+"/")) {
			return "/usr" + path
		}
	}
	return path
}

func (i *Image) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatalf("make an image: %v", err)
	}
}

// GoProgram compiles a main package of this module to a program in the guest.
func (i *Image) GoProgram(path, pkg string) *Image {
	i.t.Helper()
	return i.File(path, Build(i.t, pkg), 0o755)
}

// File copies one file of this machine.
func (i *Image) File(path, from string, perm fs.FileMode) *Image {
	i.t.Helper()
	i.must(i.archive.File(i.at(path), perm, from))
	return i
}

// Bytes makes a file.
func (i *Image) Bytes(path string, content []byte, perm fs.FileMode) *Image {
	i.t.Helper()
	i.must(i.archive.Bytes(i.at(path), perm, content))
	return i
}

// JSON makes a file of a value.
func (i *Image) JSON(path string, v any) *Image {
	i.t.Helper()
	text, err := json.Marshal(v)
	i.must(err)
	return i.Bytes(path, text, 0o644)
}

// Dir makes a folder.
func (i *Image) Dir(path string, perm fs.FileMode) *Image {
	i.t.Helper()
	i.must(i.archive.Dir(i.at(path), perm))
	return i
}

// Symlink makes a symbolic link.
func (i *Image) Symlink(path, target string) *Image {
	i.t.Helper()
	i.must(i.archive.Symlink(i.at(path), target))
	return i
}

// Host copies files and folders of this machine to the same paths, with their modes; programs and libraries bring what
// they are linked with.
func (i *Image) Host(paths ...string) *Image {
	i.t.Helper()
	for _, path := range paths {
		i.must(filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return i.host(p)
		}))
	}
	return i
}

// Tree copies a folder of this machine, with regular files and folders only, to another path.
func (i *Image) Tree(path, from string) *Image {
	i.t.Helper()
	i.must(filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return i.archive.Dir(i.at(filepath.Join(path, inside)), info.Mode().Perm())
		}
		return i.archive.File(i.at(filepath.Join(path, inside)), info.Mode().Perm(), p)
	}))
	return i
}

// Program copies programs that Debian packages install, by name, with all that they are linked with.
func (i *Image) Program(names ...string) *Image {
	i.t.Helper()
	for _, name := range names {
		path, err := lookTool(name)
		if err != nil {
			i.t.Fatalf("make an image: %s is missing here: install the Debian package that has it, and add it to bootstrap/packages.txt", name)
		}
		i.must(i.host(path))
	}
	return i
}

// host copies one file of any kind, once, with what it needs.
func (i *Image) host(path string) error {
	path = i.at(path)
	if i.archive.Has(path) {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return i.archive.Dir(path, info.Mode()&^fs.ModeDir)
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if err := i.archive.Symlink(path, target); err != nil {
			return err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		return i.host(filepath.Clean(target))
	case 0:
		if err := i.archive.File(path, info.Mode(), path); err != nil {
			return err
		}
		needed, err := linkedWith(path)
		for _, lib := range needed {
			err = errors.Join(err, i.host(lib))
		}
		return err
	}
	return fmt.Errorf("%s: mode %v is not copied", path, info.Mode())
}

// Modules carries kernel modules, by name or alias, with all that they need, and has them loaded at boot: by the init of
// qemu-tests/guest, in an order that this side has computed.
func (i *Image) Modules(names ...string) *Image {
	i.t.Helper()
	index := i.index()
	needed, err := index.Resolve(names...)
	i.must(err)
	for _, step := range needed.Load {
		file := i.carry(step.Module)
		if !slices.Contains(i.load, file) {
			i.load = append(i.load, file)
		}
	}
	return i
}

// Carry carries kernel modules and what they may ask for, without loading them.
func (i *Image) Carry(names ...string) *Image {
	i.t.Helper()
	needed, err := i.index().Closure(names...)
	i.must(err)
	for _, step := range needed.Load {
		i.carry(step.Module)
	}
	return i
}

func (i *Image) index() *kmod.Index {
	i.t.Helper()
	version := kernelVersion(i.t)
	index, err := kmod.Open(os.DirFS(KernelFile(i.t, "lib/modules/"+version)), version)
	i.must(err)
	return index
}

// carry unpacks a module into the archive and gives its path in the guest.
func (i *Image) carry(m kmod.Module) string {
	i.t.Helper()
	dir := "/lib/modules/" + kernelVersion(i.t)
	from := KernelFile(i.t, filepath.Join(dir, m.Path))
	plain := m
	for _, suffix := range []string{".xz", ".zst", ".gz"} {
		plain.Path = strings.TrimSuffix(plain.Path, suffix)
	}
	path := filepath.Join(dir, plain.Path)
	if _, ok := i.carried[m.Name]; ok {
		return path
	}
	i.carried[m.Name] = plain
	// Unpacking xz is slow next to the rest of making an image: once a kernel is enough.
	cached := filepath.Join(Root(i.t), "out", "cache", "modules", kernelVersion(i.t), plain.Path)
	if stale(cached, from) {
		i.must(unpackModule(cached, from))
	}
	i.must(i.archive.File(i.at(path), 0o644, cached))
	return path
}

// Write writes the archive and gives its path; it lives as long as the test. The index files of depmod are cut down to the
// modules that are carried.
func (i *Image) Write(name string) string {
	i.t.Helper()
	if len(i.carried) > 0 {
		var keep []kmod.Module
		for _, m := range i.carried {
			keep = append(keep, m)
		}
		files, err := i.index().Subset(keep)
		i.must(err)
		for file, content := range files {
			i.must(i.archive.Bytes(i.at(filepath.Join("/lib/modules", kernelVersion(i.t), file)), 0o644, content))
		}
	}
	if len(i.load) > 0 {
		i.must(i.archive.Bytes(plan.Modules, 0o644, []byte(strings.Join(i.load, "\n")+"\n")))
	}
	path := filepath.Join(i.t.TempDir(), name+".cpio")
	i.must(i.archive.WriteFile(path, cpio.None))
	return path
}
