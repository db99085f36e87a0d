package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Bootable is a disk that a BIOS boots: a boot record, a FAT partition with syslinux, a kernel and an initramfs, and an ext4 partition after it.
type Bootable struct {
	// Kernel and Initramfs are files of this machine; Append is the kernel's command line.
	Kernel, Initramfs, Append string
	// Boot is the size of the first partition in bytes, Root that of the second one; multiples of MiB.
	Boot, Root int64
	// Content of the second partition.
	Content Content
}

// mbr is the boot record of Debian's syslinux-common: it starts the partition that is marked active.
const mbr = "/usr/lib/syslinux/mbr/mbr.bin"

func (b Bootable) fill(path string) error {
	const sector = 512
	table := fmt.Sprintf("label: dos\nstart=%d, size=%d, type=c, bootable\nstart=%d, size=%d, type=83\n",
		partitionAlign/sector, b.Boot/sector, (partitionAlign+b.Boot)/sector, b.Root/sector)
	if _, err := tool("fdisk", []byte(table), nil, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path); err != nil {
		return err
	}
	record, err := os.ReadFile(mbr)
	if err != nil {
		return fmt.Errorf("%w: install the Debian package syslinux-common", err)
	}
	if err := (Bytes(record)).fill(path); err != nil {
		return err
	}
	return errors.Join(fillRegion(path, partitionAlign, b.Boot, bootPartition{b}), fillRegion(path, partitionAlign+b.Boot, b.Root, b.Content))
}

// bootPartition is the first one.
type bootPartition struct{ Bootable }

func (b bootPartition) fill(path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "boot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "syslinux.cfg")
	text := "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nLABEL linux\n  LINUX vmlinuz\n  INITRD initrd.img\n  APPEND " + b.Append + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	for _, step := range []struct {
		debian, name string
		args         []string
	}{
		// syslinux reads where the partition begins from the file system too.
		{"dosfstools", "mkfs.vfat", []string{"-h", fmt.Sprint(partitionAlign / 512), "-n", "BOOT", path}},
		{"mtools", "mcopy", []string{"-i", path, b.Kernel, "::vmlinuz"}},
		{"mtools", "mcopy", []string{"-i", path, b.Initramfs, "::initrd.img"}},
		{"mtools", "mcopy", []string{"-i", path, config, "::syslinux.cfg"}},
		{"syslinux", "syslinux", []string{"--install", path}},
	} {
		if _, err := tool(step.debian, nil, nil, step.name, step.args...); err != nil {
			return err
		}
	}
	return nil
}
