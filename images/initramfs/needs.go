package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"initd/images/debian"
	"initd/images/ldso"
)

// need is a file of the tree whose own needs have not been looked at.
type need struct {
	path string
	by   string
	// strict: somebody asked for this very file, so that what it cannot run without is an error, and not a note.
	strict bool
}

// addPrograms puts in programs by name or path, each with what it needs.
func (b *builder) addPrograms(ctx context.Context) error {
	var errs []error
	for _, ask := range b.spec.Programs {
		if err := b.addProgram(ctx, ask); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *builder) addProgram(ctx context.Context, ask Ask) error {
	paths := []string{ask.Name}
	if !path.IsAbs(ask.Name) {
		paths = nil
		for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
			paths = append(paths, path.Join(dir, ask.Name))
		}
	}
	name, err := b.require(ctx, paths, ask.Name, ask.By)
	if from := b.spec.Own[ask.Name]; errors.Is(err, fs.ErrNotExist) && from != "" {
		return fmt.Errorf("%s wants the program %s: it is not at %s; build it, or say where it is", ask.By, ask.Name, from)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s wants the program %s: none of the image's packages nor what they depend on has it; add the package that has it to image.packages, or the file to image.files", ask.By, ask.Name)
	}
	if err != nil {
		return err
	}
	b.needed = append(b.needed, need{path: name, by: ask.By, strict: true})
	return nil
}

// require makes sure that the first of paths that is to be had is in the tree, and returns it. It looks in the tree, in
// the host's roots, in the package that is known to have it, and in all that the opened packages depend on.
func (b *builder) require(ctx context.Context, paths []string, want, by string) (string, error) {
	for _, name := range paths {
		if real, ok := b.tree.resolve(name); ok && b.tree[real] != nil {
			return debian.Merged(name), nil
		}
	}
	for _, name := range paths {
		if n, err := b.putOwn(name, by); n != nil || err != nil {
			return name, err
		}
	}
	for _, root := range b.spec.HostRoots {
		for _, name := range paths {
			if n := hostNode(root, name, by); n != nil {
				b.tree.put(n)
				b.needed = append(b.needed, need{path: n.path, by: by})
				return n.path, nil
			}
		}
	}
	if known := packageOf(path.Base(want)); known != "" {
		if _, err := b.open(ctx, known); err != nil {
			return "", fmt.Errorf("for %s: %w", by, err)
		}
	}
	p, f, err := b.search(ctx, paths, want)
	if err != nil {
		return "", err
	}
	return b.putPackaged(p, f, by).path, nil
}

// putOwn puts in a program of this project; nil if name is none, or was not built.
func (b *builder) putOwn(name, by string) (*node, error) {
	from := b.spec.Own[name]
	if from == "" {
		return nil, nil
	}
	n, err := hostFile(from, name, 0o755, by)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n.from = path.Base(from) // as in addBase
	b.tree.put(n)
	return n, nil
}

// packageOf names the package of programs that steps ask for by name: file system tools, and interpreters of scripts.
func packageOf(program string) string {
	switch program {
	case "fsck.ext2", "fsck.ext3", "fsck.ext4", "e2fsck", "mkfs.ext4", "mke2fs", "resize2fs", "tune2fs":
		return "e2fsprogs"
	case "fsck.xfs", "xfs_repair", "mkfs.xfs", "xfs_growfs":
		return "xfsprogs"
	case "fsck.vfat", "fsck.fat", "mkfs.vfat", "mkfs.fat":
		return "dosfstools"
	case "fsck.btrfs", "btrfs", "mkfs.btrfs":
		return "btrfs-progs"
	case "sh", "dash":
		return "dash"
	case "bash":
		return "bash"
	case "perl":
		return "perl-base"
	case "python3":
		return "python3-minimal"
	}
	return ""
}

// hostNode returns a node for a file below one of the host's roots, or nil. Both places of a merged path are tried.
func hostNode(root, name, by string) *node {
	merged := debian.Merged(name)
	for _, p := range []string{merged, strings.TrimPrefix(merged, "/usr")} {
		disk := filepath.Join(root, filepath.FromSlash(p))
		info, err := os.Lstat(disk)
		if err != nil {
			continue
		}
		n := &node{path: merged, mode: info.Mode(), owner: "root", group: "root", by: by, from: disk}
		switch info.Mode().Type() {
		case 0:
			n.size, n.disk = info.Size(), disk
		case fs.ModeSymlink:
			if n.target, err = os.Readlink(disk); err != nil {
				continue
			}
		default:
			continue
		}
		return n
	}
	return nil
}

// addNeeds puts in what the files in the tree cannot run without, until nothing is missing.
func (b *builder) addNeeds(ctx context.Context) error {
	done := map[string]bool{}
	var errs []error
	for len(b.needed) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := b.needed[0]
		b.needed = b.needed[1:]
		key := fmt.Sprint(n.path, n.strict)
		if done[key] {
			continue
		}
		done[key] = true
		if err := b.needsOf(ctx, b.tree[n.path], n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *builder) needsOf(ctx context.Context, n *node, w need) error {
	switch {
	case n == nil:
		return nil
	case n.mode.Type() == fs.ModeSymlink:
		return b.followLink(ctx, n, w)
	case !n.mode.IsRegular():
		return nil
	}
	content, err := n.open()
	if err != nil {
		return fmt.Errorf("read %s (from %s): %w", n.path, n.from, err)
	}
	defer content.Close()
	at, ok := content.(io.ReaderAt)
	if !ok {
		return nil // texts that were made here run nothing
	}
	o, err := ldso.Read(at, n.path)
	switch {
	case errors.Is(err, ldso.ErrNot):
		return b.interpreter(ctx, n, at, w)
	case err != nil:
		return fmt.Errorf("put %s into the image for %s: %w", n.path, w.by, err)
	}
	return b.libraries(ctx, n, o, w)
}

// followLink puts in what a link leads to.
func (b *builder) followLink(ctx context.Context, n *node, w need) error {
	target := n.target
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(n.path), target)
	}
	if real, ok := b.tree.resolve(target); ok && isVirtual(real) {
		return nil // /run, /proc and the like exist at run time only
	}
	name, err := b.require(ctx, []string{target}, target, w.by)
	switch {
	case errors.Is(err, fs.ErrNotExist) && w.strict:
		return fmt.Errorf("%s wants %s, a link to %s, which neither the image nor a package that it depends on has", w.by, n.path, target)
	case errors.Is(err, fs.ErrNotExist):
		b.note("%s (from %s) is a link to %s, which is not in the image", n.path, n.from, target)
		return nil
	case err != nil:
		return err
	}
	b.needed = append(b.needed, need{path: name, by: w.by, strict: w.strict})
	return nil
}

func isVirtual(name string) bool {
	for _, dir := range []string{"/run", "/proc", "/sys", "/dev", "/tmp"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// interpreter puts in what runs a script.
func (b *builder) interpreter(ctx context.Context, n *node, content io.ReaderAt, w need) error {
	if n.mode.Perm()&0o111 == 0 {
		return nil
	}
	program := shebang(content)
	if program == "" {
		return nil
	}
	if !w.strict {
		// Nobody asked for this script in particular. Should it ever be called, this is what it lacks.
		if real, ok := b.tree.resolve(program); !ok || b.tree[real] == nil {
			b.note("%s (from %s) is a script for %s, which is not in the image", n.path, n.from, program)
		}
		return nil
	}
	return b.addProgram(ctx, Ask{Name: program, By: w.by})
}

// shebang returns the program in the first line of a script: with env, the one that env would look for.
func shebang(content io.ReaderAt) string {
	// As much as the kernel reads (BINPRM_BUF_SIZE).
	head := make([]byte, 256)
	n, _ := content.ReadAt(head, 0)
	line, ok := strings.CutPrefix(string(head[:n]), "#!")
	if !ok {
		return ""
	}
	line, _, _ = strings.Cut(line, "\n")
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return ""
	case path.Base(words[0]) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-"):
		return words[1]
	}
	return words[0]
}

// libraries puts in what the dynamic linker will look for.
func (b *builder) libraries(ctx context.Context, n *node, o ldso.Object, w need) error {
	var errs []error
	miss := func(what string, err error) {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s (for %s) needs %s: no package of the image, none that these depend on and no host root has it", n.path, w.by, what)
		}
		errs = append(errs, err)
	}
	if o.Interpreter != "" {
		name, err := b.require(ctx, []string{o.Interpreter}, path.Base(o.Interpreter), w.by)
		if err != nil {
			miss(o.Interpreter, err)
		} else {
			b.needed = append(b.needed, need{path: name, by: w.by, strict: true})
		}
	}
	needed := o.Needed
	if o.Unwinds && path.Base(n.path) != "libc.so.6" {
		needed = append(needed[:len(needed):len(needed)], "libgcc_s.so.1")
	}
	for _, library := range needed {
		name, err := b.require(ctx, o.Candidates(library), library, w.by)
		if err != nil {
			miss(library, err)
			continue
		}
		b.needed = append(b.needed, need{path: name, by: w.by, strict: true})
	}
	return errors.Join(errs...)
}
