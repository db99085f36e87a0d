package kmod

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Remove takes modules out of the running kernel, and then what they needed and nobody uses any more. A module that is
// not there is fine; one that is in use is an error that is unix.EWOULDBLOCK.
func (l *Loader) Remove(names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, l.remove(name))
	}
	return errors.Join(errs...)
}

func (l *Loader) remove(name string) error {
	m, err := l.index.Lookup(name)
	if err != nil {
		return err
	}
	for _, module := range m.Modules {
		if module.Builtin() {
			return fmt.Errorf("remove kernel module %s: it is built in", module.Name)
		}
		if !l.present(module.Name) {
			continue
		}
		if err := l.kernel.remove(module.Name); err != nil && !errors.Is(err, unix.ENOENT) {
			if h := hint(err); h != "" {
				return fmt.Errorf("remove kernel module %s: %w: %s", module.Name, err, h)
			}
			return fmt.Errorf("remove kernel module %s: %w", module.Name, err)
		}
		for _, need := range slices.Backward(l.index.modules[module.Name].needs) {
			if users, err := l.sys.Int(path.Join("sys/module", need, "refcnt")); err == nil && users == 0 {
				// Somebody may have begun to use it meanwhile: then it stays, and that is fine.
				_ = l.kernel.remove(need)
			}
		}
	}
	return nil
}
