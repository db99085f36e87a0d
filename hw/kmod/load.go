package kmod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"initd/hw/sysfs"
)

// LoadError is a module that the kernel did not take. It unwraps to the errno: unix.ENODEV where the machine lacks what
// the module drives.
type LoadError struct {
	Module Module
	Err    error
}

func (e *LoadError) Error() string {
	text := fmt.Sprintf("load kernel module %s (%s): %v", e.Module.Name, e.Module.Path, e.Err)
	if h := hint(e.Err); h != "" {
		text += ": " + h
	}
	return text
}

func (e *LoadError) Unwrap() error { return e.Err }

// kernel is what a Loader asks of the running kernel.
type kernel interface {
	// finit loads the module in f; with compressed set the kernel unpacks it.
	finit(f *os.File, parameters string, compressed bool) error
	init(image []byte, parameters string) error
	remove(name string) error
}

// Loader loads modules of one tree into the running kernel. It is safe for concurrent use.
type Loader struct {
	index  *Index
	dir    string   // lib/modules/RELEASE, absolute
	tree   *os.Root // there; nil if it is missing
	sys    *sysfs.FS
	config Config
	avoid  map[string]bool // what no alias may load
	kernel kernel

	mu       sync.Mutex
	inflight map[string]*flight
}

// flight is one running call into the kernel; err is valid once done is closed.
type flight struct {
	done chan struct{}
	err  error
}

// System returns the Loader of the running kernel, whose modules lie below root ("/" as a rule) in lib/modules/RELEASE.
// That folder may be missing: what is in the kernel is then still known, anything else is an *UnknownError. Close it.
func System(root string) (*Loader, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("ask for the kernel release: %w", err)
	}
	return open(root, unix.ByteSliceToString(uts.Release[:]))
}

func open(root, release string) (*Loader, error) { return openAt(root, release, "/", syscalls{}) }

// openAt opens the modules below root for the kernel whose sys and proc are below machine.
func openAt(root, release, machine string, k kernel) (*Loader, error) {
	l := &Loader{kernel: k, inflight: map[string]*flight{}}
	var err error
	if l.sys, err = sysfs.Open(machine); err != nil {
		return nil, fmt.Errorf("open the kernel's files: %w", err)
	}
	// Where /proc is not mounted (a bare chroot) nothing was said.
	line, _ := l.sys.String("proc/cmdline")
	l.config = ParseCommandLine(line)
	l.avoid = maps.Clone(l.config.Blacklist)
	maps.Copy(l.avoid, l.config.Refused)
	l.dir = strings.TrimSuffix(root, "/") + "/lib/modules/" + release
	l.tree, err = os.OpenRoot(l.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		l.index = empty(release)
		return l, nil
	case err != nil:
		l.Close()
		return nil, fmt.Errorf("open the modules of kernel %s: %w", release, err)
	}
	if l.index, err = Open(l.tree.FS(), release); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close releases what System opened.
func (l *Loader) Close() error {
	if l.tree != nil {
		l.tree.Close()
	}
	return l.sys.Close()
}

// Index returns what depmod wrote.
func (l *Loader) Index() *Index { return l.index }

// Config returns what the kernel command line says about modules.
func (l *Loader) Config() Config { return l.config }

// Load makes sure that all names (modules, aliases, modaliases, ciphers as "crypto-xts(aes)") are served by the running
// kernel, and returns when they are. What is in the kernel already, or comes from elsewhere meanwhile, is fine. An alias
// of several modules is served when one of them loads. The error joins an *UnknownError or *LoadError for each name
// that is not served.
//
// A call into the kernel cannot be interrupted: when ctx ends first, Load returns and says which module it was at, and
// the call goes on; a later Load of the same module waits for it.
func (l *Loader) Load(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := l.load(ctx, name); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (l *Loader) load(ctx context.Context, name string) error {
	matches, err := l.index.targets(name)
	if err != nil {
		if l.inKernel(name) {
			return nil
		}
		return err
	}
	for _, m := range matches {
		if err := l.loadMatch(ctx, m, "", l.insert); err != nil {
			return err
		}
	}
	return nil
}

// action does what is to be done with one module's file.
type action func(ctx context.Context, module Module, parameters string) error

// loadMatch loads what a name stands for; parameters go to the modules themselves, not to what they need.
func (l *Loader) loadMatch(ctx context.Context, m Match, parameters string, act action) error {
	var errs []error
	served := false
	for _, module := range m.Modules {
		switch {
		case m.ByAlias && l.avoid[module.Name]:
			continue
		case module.Builtin():
			served = true
			continue
		}
		if err := l.loadModule(ctx, module, parameters, act); err != nil {
			errs = append(errs, err)
			continue
		}
		served = true
	}
	if served && m.ByAlias {
		return nil
	}
	return errors.Join(errs...)
}

// loadModule loads a module and all it needs: act is called for each file in order.
func (l *Loader) loadModule(ctx context.Context, module Module, parameters string, act action) error {
	for _, s := range l.index.order(module, l.avoid) {
		given := l.config.Options[s.Name]
		if s.Name == module.Name && parameters != "" {
			given = append(given[:len(given):len(given)], parameters)
		}
		if err := act(ctx, s.Module, strings.Join(given, " ")); err != nil && (!s.Optional || ctx.Err() != nil) {
			return err
		}
	}
	return nil
}

// insert loads one module's file, once however many ask for it at a time.
func (l *Loader) insert(ctx context.Context, module Module, parameters string) error {
	if l.present(module.Name) {
		return nil
	}
	l.mu.Lock()
	f := l.inflight[module.Name]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		l.inflight[module.Name] = f
		go func() {
			// Whoever looked just before an earlier call ended comes here after it: the module is loaded by then.
			if !l.present(module.Name) {
				f.err = l.insertFile(module, parameters)
			}
			l.mu.Lock()
			delete(l.inflight, module.Name)
			l.mu.Unlock()
			close(f.done)
		}()
	}
	l.mu.Unlock()
	select {
	case <-f.done:
		if f.err != nil {
			return &LoadError{Module: module, Err: f.err}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load kernel module %s: the kernel is still at it: %w", module.Name, context.Cause(ctx))
	}
}

func (l *Loader) insertFile(module Module, parameters string) error {
	file, err := l.tree.Open(module.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	switch how := compression(module.Path); {
	case how == "":
		err = l.kernel.finit(file, parameters, false)
	case l.unpacks(how):
		err = l.kernel.finit(file, parameters, true)
	default:
		var image []byte
		if image, err = Decompress(module.Path, file); err == nil {
			err = l.kernel.init(image, parameters)
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return nil // somebody else was first
	}
	return err
}

// unpacks tells whether the kernel itself unpacks files compressed in this way: since 5.17 it says which one it does.
func (l *Loader) unpacks(how string) bool {
	does, err := l.sys.String("sys/module/compression")
	return err == nil && does == how
}
