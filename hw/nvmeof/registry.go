package nvmeof

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"initd/hw/sysfs"
)

// The registry says whose a connection is, so that tools do not take each other's away (libnvme's design/REGISTRY.md): a folder
// a controller, with a file owner in it, and the number of the last event of when it was made, for udev's rule that removes it.
const registry = "run/nvme/registry"

// Us is the owner of what initd connects by itself.
const Us = "initd"

// owner reads who registered a controller; "" nobody.
func owner(f *sysfs.FS, controller string) string {
	s, err := f.String(registry + "/" + controller + "/owner")
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(s, "?")
}

// SetOwner registers a controller that has just been made, in the place of whatever stands there of an earlier one of that
// name. root is "/", or a test's.
func SetOwner(root, controller, who string) error {
	dir := filepath.Join(root, registry)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	seq, err := os.ReadFile(filepath.Join(root, "sys/kernel/uevent_seqnum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	at := filepath.Join(dir, controller)
	if err := os.RemoveAll(at); err != nil {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	// Built beside it and moved: it is seen whole or not at all.
	temp, err := os.MkdirTemp(dir, "."+controller+".")
	if err != nil {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	for name, text := range map[string]string{"owner": who + "\n", "seqnum": strings.TrimSpace(string(seq)) + "\n"} {
		if err := renameio.WriteFile(filepath.Join(temp, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("register %s: %w", controller, err)
		}
	}
	if err := os.Rename(temp, at); err != nil {
		return fmt.Errorf("register %s: %w", controller, err)
	}
	return nil
}

// Forget removes a controller that is gone from the registry, if it is there. Where udev runs, its rule does.
func Forget(root, controller string) error {
	if !isController(controller) {
		return fmt.Errorf("%q is no NVMe controller", controller)
	}
	if err := os.RemoveAll(filepath.Join(root, registry, controller)); err != nil {
		return fmt.Errorf("unregister %s: %w", controller, err)
	}
	return nil
}
