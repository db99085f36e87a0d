package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"initd/images/cpio"
)

// Compression chooses how an image is packed: by the word that was said (zstd, gzip or none), else by what the kernel
// can unpack: zstd if its configuration has CONFIG_RD_ZSTD, or is not to be found (Debian's kernels all have it), else
// gzip, else not at all. A word that the kernel's configuration contradicts is an error.
func Compression(word, modulesDir string) (cpio.Compression, error) {
	config, name, err := kernelConfig(modulesDir)
	if err != nil {
		return 0, err
	}
	can := func(option string) bool { return config == nil || config[option] }
	switch word {
	case "none":
		return cpio.None, nil
	case "zstd", "gzip":
		option, kind := "CONFIG_RD_ZSTD", cpio.Zstd
		if word == "gzip" {
			option, kind = "CONFIG_RD_GZIP", cpio.Gzip
		}
		if !can(option) {
			return 0, fmt.Errorf("compress the image by %s: the kernel cannot unpack that (%s has no %s=y)", word, name, option)
		}
		return kind, nil
	case "":
		switch {
		case can("CONFIG_RD_ZSTD"):
			return cpio.Zstd, nil
		case can("CONFIG_RD_GZIP"):
			return cpio.Gzip, nil
		}
		return cpio.None, nil
	}
	return 0, fmt.Errorf("%q is no compression: say zstd, gzip or none", word)
}

// kernelConfig returns the options that are y in the configuration of a kernel, from where it is usually kept: beside
// the modules, in /boot, or in the folder that holds lib/modules. nil: nowhere.
func kernelConfig(modulesDir string) (map[string]bool, string, error) {
	if modulesDir == "" {
		return nil, "", nil
	}
	release := filepath.Base(modulesDir)
	root := filepath.Join(modulesDir, "../../..")
	for _, name := range []string{filepath.Join(modulesDir, "config"), filepath.Join(root, "boot", "config-"+release), filepath.Join(root, "config"), "/boot/config-" + release} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		options := map[string]bool{}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if option, ok := strings.CutSuffix(lines.Text(), "=y"); ok {
				options[option] = true
			}
		}
		f.Close()
		if len(options) == 0 || lines.Err() != nil {
			continue // a file of that name which is something else
		}
		return options, name, nil
	}
	return nil, "", nil
}
