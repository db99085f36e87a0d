package kmod

import (
	"errors"
	"slices"
	"strings"
)

// Match is what a name stands for.
type Match struct {
	Modules []Module
	// ByAlias tells that the name is an alias: blacklists hold for these only, and any of the modules may do.
	ByAlias bool
}

// Lookup answers what a module name, an alias, a modalias of a device or "symbol:NAME" stands for, in the order of
// modprobe: a module's own name, then aliases of modules with a file, then what is built in. The first that is found
// hides the others, but for what is built in: that is listed beside modules, because it is there in any case.
func (x *Index) Lookup(name string) (Match, error) {
	if e := x.modules[Normalize(name)]; e != nil {
		return Match{Modules: []Module{e.Module}}, nil
	}
	plain := normalizeAlias(name)
	names := x.aliases.lookup(plain)
	if strings.HasPrefix(plain, "symbol:") {
		names = x.symbols[plain]
	}
	m := Match{ByAlias: true}
	for _, n := range names {
		m.Modules = append(m.Modules, x.modules[n].Module)
	}
	if n := Normalize(name); x.builtin[n] {
		m.Modules = append(m.Modules, Module{Name: n})
		m.ByAlias = len(names) > 0
	} else {
		for _, n := range x.compiled.lookup(plain) {
			m.Modules = append(m.Modules, Module{Name: n})
		}
	}
	if len(m.Modules) == 0 {
		return Match{}, &UnknownError{Name: name, Release: x.release, NoTree: x.noTree}
	}
	return m, nil
}

// request is a name that the kernel itself would ask for on the way to what was wanted.
type request struct {
	name     string
	optional bool // the kernel goes on without it
}

// requests returns what the kernel asks modprobe for when name is used. Almost always that is the name itself. A
// cipher is looked up by its full name, then for accelerated forms of it (with -all), then part by part: "xts(aes)"
// makes the template xts and the cipher aes (crypto/api.c, crypto_larval_lookup; crypto/algboss.c, cryptomgr_probe).
func requests(name string) []request {
	cipher, ok := strings.CutPrefix(name, "crypto-")
	if !ok {
		return []request{{name: name}}
	}
	list := []request{{name, strings.Contains(cipher, "(")}, {name + "-all", true}}
	if !list[0].optional {
		return list
	}
	for _, part := range strings.FieldsFunc(cipher, func(c rune) bool { return strings.ContainsRune("(),", c) }) {
		list = append(list, request{name: "crypto-" + part}, request{"crypto-" + part + "-all", true})
	}
	return list
}

// targets returns the modules that a wanted name comes to, each once.
func (x *Index) targets(name string) ([]Match, error) {
	var all []Match
	seen := map[string]bool{}
	for _, r := range requests(name) {
		m, err := x.Lookup(r.name)
		if err != nil {
			if r.optional {
				continue
			}
			if unknown := (*UnknownError)(nil); errors.As(err, &unknown) && r.name != name {
				unknown.For = name
			}
			return nil, err
		}
		m.Modules = slices.DeleteFunc(m.Modules, func(m Module) bool { return seen[m.Name] })
		for _, n := range m.Modules {
			seen[n.Name] = true
		}
		if len(m.Modules) > 0 {
			all = append(all, m)
		}
	}
	return all, nil
}
