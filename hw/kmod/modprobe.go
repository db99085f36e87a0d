package kmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Modprobe is the program of that name. It understands what the kernel calls it with ("modprobe -q -- NAME",
// kernel/module/kmod.c) and what people and scripts do: -a, -n, -D, -v, -q, -b, -r, -R, -d, -S, --first-time. It returns
// the exit status: 0, or 1 when something was not found or not loaded.
func Modprobe(args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args)
	if err != nil {
		fmt.Fprintf(stderr, "modprobe: %v; see modprobe --help\n", err)
		return 1
	}
	switch {
	case o.help:
		fmt.Fprint(stdout, usage)
		return 0
	case o.version:
		fmt.Fprintln(stdout, "modprobe (initd)")
		return 0
	case len(o.names) == 0:
		fmt.Fprintln(stderr, "modprobe: name a module; see modprobe --help")
		return 1
	}
	p := &modprobe{options: o, stdout: stdout, stderr: stderr}
	if o.syslog {
		if log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
			defer log.Close()
			p.stderr = log
		}
	}
	if o.release == "" {
		p.loader, err = System(o.root)
	} else {
		p.loader, err = open(o.root, o.release)
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "modprobe: %v\n", err)
		return 1
	}
	defer p.loader.Close()
	status := 0
	for _, name := range o.names {
		if err := p.one(name); err != nil {
			status = 1
			if unknown := (*UnknownError)(nil); !o.quiet || !errors.As(err, &unknown) {
				fmt.Fprintf(p.stderr, "modprobe: %v\n", err)
			}
		}
	}
	return status
}

// modprobe is one run of the program.
type modprobe struct {
	options
	loader         *Loader
	stdout, stderr io.Writer
}

func (p *modprobe) one(name string) error {
	if p.remove {
		return p.removeOne(name)
	}
	// What the kernel asks for is looked up as it stands: it makes its own further requests.
	m, err := p.loader.index.Lookup(name)
	if err != nil {
		if !p.resolve && !p.show && p.loader.inKernel(name) {
			return p.already(name)
		}
		return err
	}
	if p.resolve {
		for _, module := range m.Modules {
			fmt.Fprintln(p.stdout, module.Name)
		}
		return nil
	}
	if p.blacklist {
		m.ByAlias = true
	}
	if p.show {
		for _, module := range m.Modules {
			if module.Builtin() && len(m.Modules) == 1 {
				fmt.Fprintln(p.stdout, "builtin", module.Name)
			}
		}
		return p.loader.loadMatch(context.Background(), m, p.parameters, p.print)
	}
	if len(m.Modules) > 0 && (m.Modules[0].Builtin() || p.loader.present(m.Modules[0].Name)) {
		if err := p.already(m.Modules[0].Name); err != nil {
			return err
		}
	}
	// The kernel ends a modprobe that takes too long by itself; a person has ctrl-C.
	return p.loader.loadMatch(context.Background(), m, p.parameters, p.insert)
}

func (p *modprobe) insert(ctx context.Context, module Module, parameters string) error {
	if p.loader.present(module.Name) {
		return nil
	}
	if p.verbose {
		if err := p.print(ctx, module, parameters); err != nil {
			return err
		}
	}
	if p.dry {
		return nil
	}
	return p.loader.insert(ctx, module, parameters)
}

// print shows what would be done, in the words that other tools parse.
func (p *modprobe) print(_ context.Context, module Module, parameters string) error {
	_, err := fmt.Fprintln(p.stdout, strings.TrimSpace(strings.Join([]string{"insmod", path.Join(p.loader.dir, module.Path), parameters}, " ")))
	return err
}

// already is what to say of a module that is there; only --first-time minds.
func (p *modprobe) already(name string) error {
	if p.firstTime {
		return fmt.Errorf("load kernel module %s: it is in the kernel already", name)
	}
	return nil
}

func (p *modprobe) removeOne(name string) error {
	if p.dry {
		_, err := p.loader.index.Lookup(name)
		return err
	}
	if p.firstTime && !p.loader.present(Normalize(name)) {
		return fmt.Errorf("remove kernel module %s: %w", name, unix.ENOENT)
	}
	return p.loader.Remove(name)
}
