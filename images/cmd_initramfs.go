package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/boot/appliance"
	"initd/images/initramfs"
	"initd/initd/cli"
)

// initramfsFlags is what the command line says.
type initramfsFlags struct {
	file, out, kernelDir, init, initd, v2v, compress, drivers, cache string
	modules, packages, programs, hostRoots                           []string
	explain, asJSON                                                  bool
}

func initramfsCommand() *cobra.Command {
	var f initramfsFlags
	c := &cobra.Command{
		Use:   "initramfs -f FILE -o OUT",
		Short: "Make the archive that a kernel boots an appliance from",
		Long: `Makes an initramfs of the appliance that FILE describes: init and initd, the file with its layers, the kernel modules
that its units need, and what its image section asks for. The same inputs give the same bytes.

The image has no secret and no identity: certificates and keys come from the state disk, or from a second archive that
is given to the kernel of one machine.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return buildInitramfs(c, f) },
	}
	flags := c.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "the appliance's `FILE`")
	flags.StringVarP(&f.out, "out", "o", "", "write the image to `OUT`; without it, nothing is written")
	flags.StringVar(&f.kernelDir, "kernel-dir", "", "lib/modules/RELEASE of the kernel to boot (default: the running kernel's)")
	flags.StringVar(&f.init, "init", "", "the program for /init (default: init beside this program)")
	flags.StringVar(&f.initd, "initd", "", "the program for /usr/bin/initd (default: initd beside this program)")
	flags.StringVar(&f.v2v, "v2v", "", "the program for /usr/bin/v2v, where the file has jobs (default: v2v beside this program)")
	flags.StringVar(&f.compress, "compress", "", "zstd, gzip or none (default: what the kernel can unpack, zstd first)")
	flags.StringVar(&f.drivers, "drivers", "base", "drivers that no line of the file names: none, virtio, base or all")
	flags.StringVar(&f.cache, "cache", "", "folder for fetched packages (default: initd/debs in the user's cache folder)")
	flags.StringArrayVar(&f.modules, "module", nil, "put in this kernel module or alias too; may be repeated")
	flags.StringArrayVar(&f.packages, "package", nil, "put in this Debian package too; may be repeated")
	flags.StringArrayVar(&f.programs, "program", nil, "put in this program too; may be repeated")
	flags.StringArrayVar(&f.hostRoots, "with-host-root", nil, "look for programs and libraries in this folder before fetching packages; may be repeated")
	flags.BoolVar(&f.explain, "explain", false, "say for each file who asked for it and what it costs")
	flags.BoolVar(&f.asJSON, "json", false, "with --explain: as JSON ("+initramfs.Schema+")")
	return c
}

func buildInitramfs(c *cobra.Command, f initramfsFlags) error {
	if f.out == "" && !f.explain {
		return cli.Usage(errors.New("say where to write the image with -o OUT, or ask with --explain what it would hold"))
	}
	if f.asJSON && !f.explain {
		return cli.Usage(errors.New("--json is the form of --explain"))
	}
	spec, err := f.spec()
	if err != nil {
		return err
	}
	if f.file != "" {
		asked, err := specFromAppliance(f.file)
		if problems := (*appliance.Problems)(nil); errors.As(err, &problems) {
			return cli.Usage(problems)
		}
		if err != nil {
			return cli.Usage(err)
		}
		asked.Modules = append(asked.Modules, spec.Modules...)
		asked.Packages = append(asked.Packages, spec.Packages...)
		asked.Programs = append(asked.Programs, spec.Programs...)
		spec.Texts, spec.Files, spec.Users = asked.Texts, asked.Files, asked.Users
		spec.Modules, spec.Packages, spec.Programs = asked.Modules, asked.Packages, asked.Programs
	}
	stderr := c.ErrOrStderr()
	spec.Log = func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	compression, err := initramfs.Compression(f.compress, spec.ModulesDir)
	if err != nil {
		return cli.Usage(err)
	}
	image, err := initramfs.Build(c.Context(), spec)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := cli.WriteFile(f.out, 0o644, func(w io.Writer) error { return image.Write(w, compression) }); err != nil {
			return err
		}
	}
	if f.explain {
		return explain(c.OutOrStdout(), image, f.asJSON)
	}
	for _, n := range image.Notes {
		fmt.Fprintln(stderr, "note:", n)
	}
	return nil
}

func explain(w io.Writer, image *initramfs.Image, asJSON bool) error {
	e := image.Explain()
	if asJSON {
		return e.JSON(w)
	}
	return e.Text(w)
}

// spec is what the flags alone ask for.
func (f initramfsFlags) spec() (initramfs.Spec, error) {
	s := initramfs.Spec{Init: f.init, Initd: f.initd, ModulesDir: f.kernelDir, Drivers: f.drivers, HostRoots: f.hostRoots, Cache: f.cache}
	v2v := f.v2v
	for _, p := range []struct {
		to   *string
		name string
	}{{&s.Init, "init"}, {&s.Initd, "initd"}, {&v2v, "v2v"}} {
		if *p.to != "" {
			continue
		}
		self, err := os.Executable()
		if err != nil {
			return s, fmt.Errorf("find the program %s: %w; name it with --%s", p.name, err, p.name)
		}
		*p.to = filepath.Join(filepath.Dir(self), p.name)
	}
	s.Own = map[string]string{"/usr/bin/v2v": v2v}
	if s.ModulesDir == "" {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return s, fmt.Errorf("ask for the kernel release: %w; say where its modules are with --kernel-dir", err)
		}
		s.ModulesDir = filepath.Join("/lib/modules", unix.ByteSliceToString(uts.Release[:]))
	}
	if s.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return s, fmt.Errorf("find a place for packages: %w; name one with --cache", err)
		}
		s.Cache = filepath.Join(dir, "initd", "debs")
	}
	for _, list := range []struct {
		names []string
		to    *[]initramfs.Ask
		by    string
	}{{f.modules, &s.Modules, "--module"}, {f.packages, &s.Packages, "--package"}, {f.programs, &s.Programs, "--program"}} {
		for _, n := range list.names {
			*list.to = append(*list.to, initramfs.Ask{Name: n, By: list.by})
		}
	}
	return s, nil
}
