package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"initd/hw/kmod"
)

// addModules puts in the closure of the modules that are asked for, unpacked (the archive as a whole is compressed
// better), and an index that knows no others.
func (b *builder) addModules(context.Context) error {
	if b.spec.ModulesDir == "" {
		if len(b.spec.Modules) > 0 {
			return fmt.Errorf("%s wants the kernel module %s: say with --kernel-dir where lib/modules/RELEASE of the kernel to boot is", b.spec.Modules[0].By, b.spec.Modules[0].Name)
		}
		return nil
	}
	b.release = b.spec.Release
	if b.release == "" {
		b.release = filepath.Base(b.spec.ModulesDir)
	}
	index, err := kmod.Open(os.DirFS(b.spec.ModulesDir), b.release)
	if err != nil {
		return fmt.Errorf("the kernel's modules in %s: %w; say with --kernel-dir where lib/modules/RELEASE of the kernel to boot is", b.spec.ModulesDir, err)
	}
	// What a kernel lacks of these it has built in, or it was not made for such machines.
	optional, err := drivers(b.spec.Drivers, index)
	if err != nil {
		return err
	}
	by := map[string]string{}
	var names []string
	var errs []error
	for i, ask := range slices.Concat(b.spec.Modules, optional) {
		if _, seen := by[ask.Name]; seen {
			continue
		}
		if _, err := index.Closure(ask.Name); err != nil {
			if i >= len(b.spec.Modules) {
				b.note("%s: kernel %s has no module %s", ask.By, b.release, ask.Name)
				continue
			}
			errs = append(errs, fmt.Errorf("for %s: %w", ask.By, err))
			continue
		}
		by[ask.Name] = ask.By
		names = append(names, ask.Name)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	closure, err := index.Closure(names...)
	if err != nil {
		return err
	}
	root := "/usr/lib/modules/" + b.release
	var keep []kmod.Module
	for _, s := range closure.Load {
		content, err := b.module(s.Path)
		if err != nil {
			return err
		}
		for _, suffix := range []string{".gz", ".xz", ".zst"} {
			s.Path = strings.TrimSuffix(s.Path, suffix)
		}
		keep = append(keep, s.Module)
		b.tree.put(&node{path: path.Join(root, s.Path), mode: 0o644, owner: "root", group: "root", content: content, size: int64(len(content)), by: by[s.For], from: "kernel " + b.release})
	}
	files, err := index.Subset(keep)
	if err != nil {
		return err
	}
	for name, content := range files {
		b.tree.text(path.Join(root, name), string(content), 0o644, "kernel modules")
	}
	return nil
}

func (b *builder) module(name string) ([]byte, error) {
	packed, err := os.ReadFile(filepath.Join(b.spec.ModulesDir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("put a kernel module into the image: %w; is modules.dep out of date? depmod writes it anew", err)
	}
	return kmod.Decompress(name, bytes.NewReader(packed))
}

// byHardware asks for the drivers that no line of the appliance's file names.
const byHardware = "base: hardware"

// DriverSets are the words for Spec.Drivers.
func DriverSets() []string { return []string{"none", "virtio", "base", "all"} }

// drivers returns the modules of a set: for virtual machines, for the usual disk controllers too, or every disk and
// network driver that the kernel has.
func drivers(set string, index *kmod.Index) ([]Ask, error) {
	names := []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "virtio_rng"}
	switch set {
	case "none":
		names = nil
	case "virtio":
	case "", "base", "all":
		names = append(names, "sd_mod", "nvme", "ahci", "ata_piix")
	default:
		return nil, fmt.Errorf("%q is no set of drivers: say %s", set, strings.Join(DriverSets(), ", "))
	}
	if set == "all" {
		for _, m := range index.Modules() {
			for _, dir := range []string{"ata", "block", "hv", "message", "mmc/host", "net/ethernet", "nvme/host", "scsi", "virtio", "xen"} {
				if strings.HasPrefix(m.Path, "kernel/drivers/"+dir+"/") {
					names = append(names, m.Name)
				}
			}
		}
	}
	var list []Ask
	for _, n := range names {
		list = append(list, Ask{Name: n, By: byHardware})
	}
	return list, nil
}
