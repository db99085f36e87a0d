//go:build !guest

package kmod_test

import (
	"errors"
	"fmt"
	"os"

	"initd/hw/kmod"
)

func ExampleIndex_Resolve() {
	index, err := kmod.Open(os.DirFS("testdata/tree"), "6.12-cloud")
	if err != nil {
		fmt.Println(err)
		return
	}
	todo, err := index.Resolve("dm-crypt", "fs-ext4", "zfs")
	for _, step := range todo.Load {
		fmt.Println("load", step.Path, "for", step.For)
	}
	for _, step := range todo.Builtin {
		fmt.Println("built in:", step.Name)
	}
	if unknown := (*kmod.UnknownError)(nil); errors.As(err, &unknown) {
		fmt.Println("unknown:", unknown.Name)
	}
	// Output:
	// load kernel/drivers/md/dm-mod.ko.xz for dm-crypt
	// load kernel/drivers/md/dm-crypt.ko.xz for dm-crypt
	// load kernel/arch/x86/crypto/crc32c-intel.ko.xz for fs-ext4
	// built in: ext4
	// unknown: zfs
}
