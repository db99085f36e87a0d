package kmod

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// maxIndexFile bounds one of depmod's files in bytes; the largest of a kernel with everything is about 6 MiB.
const maxIndexFile = 64 << 20

// Index is what depmod wrote about one kernel release. It is immutable, and safe for concurrent use.
type Index struct {
	release string
	noTree  bool
	modules map[string]*entry // those with a file
	files   []string          // names of modules, in the order of modules.dep
	builtin map[string]bool   // those without

	aliases  aliases // of modules with a file
	symbols  map[string][]string
	compiled aliases // of what is built in
	soft     map[string]softdep
	weak     map[string][]string
}

// entry is a module with a file.
type entry struct {
	Module
	needs []string // names, in an order in which they can be loaded
}

// Open reads the index of release from tree, the folder lib/modules/RELEASE. A tree without modules.dep is an error
// that is fs.ErrNotExist; each of the other files may be missing.
func Open(tree fs.FS, release string) (*Index, error) {
	x := empty(release)
	x.noTree = false
	for _, file := range []struct {
		name  string
		parse func(string) error
	}{
		{"modules.dep", x.addDep},
		{"modules.softdep", x.addSoftdep},
		{"modules.weakdep", x.addWeakdep},
		{"modules.alias", x.addAlias},
		{"modules.symbols", x.addSymbols},
		{"modules.builtin", x.addBuiltin},
		{"modules.builtin.modinfo", x.addModinfo},
	} {
		text, err := readIndex(tree, file.name)
		if errors.Is(err, fs.ErrNotExist) && file.name != "modules.dep" {
			continue
		}
		if err == nil {
			err = file.parse(text)
		}
		if err != nil {
			return nil, fmt.Errorf("read lib/modules/%s/%s: %w; depmod %s writes it anew", release, file.name, err, release)
		}
	}
	return x, nil
}

// empty is the index of a release whose tree is not there.
func empty(release string) *Index {
	return &Index{
		release: release, noTree: true,
		modules: map[string]*entry{}, builtin: map[string]bool{}, symbols: map[string][]string{},
		soft: map[string]softdep{}, weak: map[string][]string{},
	}
}

func readIndex(tree fs.FS, name string) (string, error) {
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxIndexFile {
		return "", fmt.Errorf("larger than %d bytes", maxIndexFile)
	}
	return string(b), nil
}

// Release is the kernel release that the index is of.
func (x *Index) Release() string { return x.release }

// Modules returns all modules with a file, in the order of modules.dep.
func (x *Index) Modules() []Module {
	list := make([]Module, 0, len(x.files))
	for _, name := range x.files {
		list = append(list, x.modules[name].Module)
	}
	return list
}

// Module returns the module of that very name, with - and _ taken as equal.
func (x *Index) Module(name string) (Module, bool) {
	name = Normalize(name)
	if e := x.modules[name]; e != nil {
		return e.Module, true
	}
	return Module{Name: name}, x.builtin[name]
}

func (x *Index) addDep(text string) error {
	deps, err := parseDep(text)
	if err != nil {
		return err
	}
	for _, d := range deps {
		e := &entry{Module: Module{Name: nameOf(d.file), Path: d.file}}
		for _, file := range slices.Backward(d.needs) {
			e.needs = append(e.needs, nameOf(file))
		}
		if x.modules[e.Name] == nil {
			x.files = append(x.files, e.Name)
		}
		x.modules[e.Name] = e
	}
	for _, e := range x.modules {
		for _, n := range e.needs {
			if x.modules[n] == nil {
				return fmt.Errorf("%s needs %s, which has no line", e.Path, n)
			}
		}
	}
	return nil
}

func (x *Index) addSoftdep(text string) error {
	list, err := parseSoftdep(text)
	x.addSoft(list)
	return err
}

// addSoft adds up: depmod writes a line for each statement in a module's source, and all of them hold.
func (x *Index) addSoft(list []softdep) {
	for _, s := range list {
		sum := x.soft[s.module]
		sum.module = s.module
		sum.pre = append(sum.pre, s.pre...)
		sum.post = append(sum.post, s.post...)
		x.soft[s.module] = sum
	}
}

func (x *Index) addWeakdep(text string) error {
	list, err := parseWeakdep(text)
	for _, w := range list {
		x.weak[w.module] = append(x.weak[w.module], w.may...)
	}
	return err
}

func (x *Index) addAlias(text string) error {
	list, err := parseAlias(text)
	for _, a := range list {
		if x.modules[a.module] != nil {
			x.aliases.add(a)
		}
	}
	return err
}

func (x *Index) addSymbols(text string) error {
	list, err := parseAlias(text)
	for _, a := range list {
		if x.modules[a.module] != nil {
			x.symbols[a.pattern] = append(x.symbols[a.pattern], a.module)
		}
	}
	return err
}

func (x *Index) addBuiltin(text string) error {
	for _, name := range parseBuiltin(text) {
		x.builtin[name] = true
	}
	return nil
}

func (x *Index) addModinfo(text string) error {
	list, soft := parseModinfo(text)
	for _, a := range list {
		x.builtin[a.module] = true
		x.compiled.add(a)
	}
	x.addSoft(soft)
	return nil
}

// aliases answers which modules an alias stands for.
type aliases struct {
	literal map[string][]numbered
	wild    []numbered
	count   int
}

// numbered remembers where in the file an alias stands: that is the order in which its modules are tried.
type numbered struct {
	alias
	n int
}

func (s *aliases) add(a alias) {
	if s.literal == nil {
		s.literal = map[string][]numbered{}
	}
	n := numbered{a, s.count}
	s.count++
	if wild(a.pattern) {
		s.wild = append(s.wild, n)
		return
	}
	s.literal[a.pattern] = append(s.literal[a.pattern], n)
}

// lookup returns the modules of an alias, each once, in the order of the file.
func (s *aliases) lookup(name string) []string {
	found := slices.Clone(s.literal[name])
	for _, w := range s.wild {
		if i := strings.IndexAny(w.pattern, `*?[\`); len(name) >= i && name[:i] == w.pattern[:i] && fnmatch(w.pattern, name) {
			found = append(found, w)
		}
	}
	slices.SortFunc(found, func(a, b numbered) int { return a.n - b.n })
	var names []string
	for _, f := range found {
		if !slices.Contains(names, f.module) {
			names = append(names, f.module)
		}
	}
	return names
}

// all returns every alias in the order of the file.
func (s *aliases) all() []alias {
	list := slices.Clone(s.wild)
	for _, l := range s.literal {
		list = append(list, l...)
	}
	slices.SortFunc(list, func(a, b numbered) int { return a.n - b.n })
	out := make([]alias, len(list))
	for i, n := range list {
		out[i] = n.alias
	}
	return out
}
