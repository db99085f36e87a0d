package kmod

import "errors"

// Step is one module to load.
type Step struct {
	Module
	// For is the asked name that brought the module in first.
	For string `json:"for"`
	// Optional modules were brought in by a soft dependency: when one does not load, the others still are.
	Optional bool `json:"optional,omitempty"`
}

// Resolution is what names come to.
type Resolution struct {
	// Load lists modules with files in an order in which they can be loaded, each once.
	Load []Step `json:"load"`
	// Builtin lists what needs no loading, in the order in which it was met.
	Builtin []Step `json:"builtin,omitempty"`
}

// Resolve answers which modules have to be loaded, and in which order, so that all the names (modules, aliases,
// modaliases, or ciphers as "crypto-xts(aes)") are served: dependencies first, soft dependencies before and after the
// module that states them. The error joins an *UnknownError for each name that nothing has; the resolution then covers
// the others.
func (x *Index) Resolve(names ...string) (Resolution, error) { return x.resolve(false, names) }

// Closure is Resolve with all that the modules may ask for at run time besides (modules.weakdep): what an image has to
// carry, though nobody loads all of it beforehand.
func (x *Index) Closure(names ...string) (Resolution, error) { return x.resolve(true, names) }

func (x *Index) resolve(weak bool, names []string) (Resolution, error) {
	r := newResolver(x)
	r.weak = weak
	var errs []error
	for _, name := range names {
		matches, err := x.targets(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.asked = name
		for _, m := range matches {
			for _, module := range m.Modules {
				r.root(module.Name)
			}
		}
	}
	return r.result(), errors.Join(errs...)
}

// order resolves one module, avoiding those that only an alias asks for and that are in avoid.
func (x *Index) order(module Module, avoid map[string]bool) []Step {
	r := newResolver(x)
	r.asked, r.avoid = module.Name, avoid
	r.root(module.Name)
	return r.result().Load
}

type state byte

const (
	visiting state = iota + 1
	done
)

// resolver walks the graph of one resolution.
type resolver struct {
	x        *Index
	weak     bool
	asked    string
	avoid    map[string]bool
	state    map[string]state
	required map[string]bool
	out      Resolution
}

func newResolver(x *Index) *resolver {
	return &resolver{x: x, state: map[string]state{}, required: map[string]bool{}}
}

// result is complete once all roots are in: a module that was first wished for may be needed later.
func (r *resolver) result() Resolution {
	for i := range r.out.Load {
		r.out.Load[i].Optional = !r.required[r.out.Load[i].Name]
	}
	return r.out
}

// root adds a module that was asked for.
func (r *resolver) root(name string) {
	r.required[name] = true
	if e := r.x.modules[name]; e != nil {
		for _, n := range e.needs {
			r.required[n] = true
		}
	}
	r.visit(name)
}

// visit appends a module after its needs and what it would like before it. A soft dependency on something that is
// being visited further up is dropped: two modules may each wish to come after the other.
func (r *resolver) visit(name string) {
	if r.state[name] != 0 {
		return
	}
	r.state[name] = visiting
	e := r.x.modules[name]
	if e != nil {
		for _, n := range e.needs {
			r.need(n)
		}
	}
	soft := r.x.soft[name]
	r.wish(soft.pre)
	r.emit(name)
	r.wish(soft.post)
	if r.weak {
		r.wish(r.x.weak[name])
	}
}

// need appends a dependency. One that is being visited further up (a module it would like to have first needs it) is
// appended now, after its own needs: a need outweighs a wish.
func (r *resolver) need(name string) {
	if r.state[name] != visiting {
		r.visit(name)
		return
	}
	// The list in modules.dep is complete and ordered: no further walk is needed.
	for _, n := range r.x.modules[name].needs {
		r.emit(n)
	}
	r.emit(name)
}

func (r *resolver) wish(names []string) {
	for _, name := range names {
		m, err := r.x.Lookup(name)
		if err != nil {
			continue // a wish for what this kernel does not have
		}
		for _, module := range m.Modules {
			if !m.ByAlias || !r.avoid[module.Name] {
				r.visit(module.Name)
			}
		}
	}
}

func (r *resolver) emit(name string) {
	if r.state[name] == done {
		return
	}
	r.state[name] = done
	module, _ := r.x.Module(name)
	step := Step{Module: module, For: r.asked}
	if module.Builtin() {
		r.out.Builtin = append(r.out.Builtin, step)
		return
	}
	r.out.Load = append(r.out.Load, step)
}
