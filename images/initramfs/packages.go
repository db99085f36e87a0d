package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"initd/images/debian"
)

// addPackages puts in packages that are asked for, but for what nobody reads on an appliance.
func (b *builder) addPackages(ctx context.Context) error {
	var errs []error
	for _, ask := range b.spec.Packages {
		p, err := b.open(ctx, ask.Name)
		if err != nil {
			errs = append(errs, fmt.Errorf("for %s: %w", ask.By, err))
			continue
		}
		for _, f := range p.Files {
			if !unwanted(f.Path) {
				b.putPackaged(p, f, ask.By)
			}
		}
	}
	return errors.Join(errs...)
}

// open opens a package, whose dependencies may be searched from now on.
func (b *builder) open(ctx context.Context, name string) (*debian.Package, error) {
	p, err := b.repo.Open(ctx, name)
	if err == nil && !slices.Contains(b.roots, name) {
		b.roots = append(b.roots, name)
		b.closure = nil
	}
	return p, err
}

// putPackaged puts in one file of a package; one that is there already stays.
func (b *builder) putPackaged(p *debian.Package, f debian.File, by string) *node {
	n := &node{path: f.Path, mode: f.Mode, owner: f.Owner, group: f.Group, target: f.Target, size: f.Size, by: by, from: p.Name + " " + p.Version}
	if f.Content != "" {
		n.disk = p.Disk(f)
	}
	b.contributed(p, by)
	if !b.tree.put(n) {
		return b.tree[n.path]
	}
	if !n.mode.IsDir() {
		b.needed = append(b.needed, need{path: n.path, by: by})
	}
	return n
}

// contributed remembers that a package has files in the image: its accounts belong there too.
func (b *builder) contributed(p *debian.Package, by string) {
	if !slices.ContainsFunc(b.packages, func(c contribution) bool { return c.Package == p }) {
		b.packages = append(b.packages, contribution{p, by})
	}
}

// unwanted tells what a package's part in an image leaves out: documentation, translations, what serves other init
// systems, package managers, editors and compilers, and what Setup has read.
func unwanted(name string) bool {
	for _, dir := range []string{
		"/usr/share/doc", "/usr/share/doc-base", "/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian", "/usr/share/bug",
		"/usr/share/menu", "/usr/share/applications", "/usr/share/pixmaps", "/usr/share/icons", "/usr/share/bash-completion", "/usr/share/zsh",
		"/usr/share/fish", "/usr/share/metainfo", "/usr/share/appdata", "/usr/share/gtk-doc", "/usr/share/apport", "/usr/share/reportbug",
		"/usr/include", "/usr/lib/pkgconfig", "/usr/lib/x86_64-linux-gnu/pkgconfig", "/usr/share/pkgconfig", "/usr/share/aclocal",
		"/etc/init.d", "/etc/init", "/etc/logrotate.d", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly",
		"/etc/apparmor.d", "/etc/ufw", "/etc/bash_completion.d", "/etc/insserv.conf.d", "/usr/lib/systemd", "/usr/lib/udev",
		"/usr/lib/sysusers.d", "/usr/lib/tmpfiles.d", "/usr/lib/modules-load.d", "/run", "/var/run",
	} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return path.Ext(name) == ".a" && strings.HasPrefix(name, "/usr/lib/")
}

// search looks for the first of paths in the packages that the opened ones depend on: in those at hand first, then near
// ones before far ones, and before all others those whose name likely stands for want.
func (b *builder) search(ctx context.Context, paths []string, want string) (*debian.Package, debian.File, error) {
	find := func(p *debian.Package) (debian.File, bool) {
		for _, name := range paths {
			if f, ok := p.Find(debian.Merged(name)); ok && !f.Mode.IsDir() {
				return f, true
			}
		}
		return debian.File{}, false
	}
	if len(b.roots) == 0 {
		return nil, debian.File{}, fs.ErrNotExist
	}
	if b.closure == nil {
		list, err := b.repo.Closure(ctx, b.roots...)
		if err != nil {
			return nil, debian.File{}, err
		}
		b.closure = list
	}
	var rest []string
	for _, c := range b.closure {
		p := b.repo.Opened()[c.Name]
		if p == nil {
			rest = append(rest, c.Name)
			continue
		}
		if f, ok := find(p); ok {
			return p, f, nil
		}
	}
	slices.SortStableFunc(rest, func(a, c string) int { return likely(c, want) - likely(a, want) })
	for _, name := range rest {
		p, err := b.repo.Open(ctx, name)
		if err != nil {
			return nil, debian.File{}, err
		}
		if f, ok := find(p); ok {
			return p, f, nil
		}
	}
	return nil, debian.File{}, fs.ErrNotExist
}

// likely grades how well a package's name fits what is looked for: Debian Policy 8.1 names library packages after their
// soname, libfoo.so.2 is in libfoo2.
func likely(name, want string) int {
	plain := func(s string) string {
		return strings.Map(func(c rune) rune {
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' {
				return c
			}
			return -1
		}, strings.ToLower(strings.Replace(s, ".so", "", 1)))
	}
	w, n := plain(path.Base(want)), plain(strings.TrimSuffix(name, "t64"))
	switch {
	case n == w:
		return 4
	case strings.HasPrefix(n, strings.TrimRight(w, "0123456789")):
		return 3
	case w == "libm6" && n == "libc6" || strings.HasPrefix(w, "ldlinux") && n == "libc6":
		return 3
	case strings.HasPrefix(want, "lib") && strings.HasPrefix(name, "lib"):
		return 2
	}
	return 0
}
