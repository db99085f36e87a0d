package nvmeof

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disconnect takes a connection away, with its ways to namespaces, and a disk with the last of them. It blocks until all I/O
// has ended, one way or the other. One that is gone already is no error. root is "/", or a test's.
func Disconnect(root, controller string) error {
	if err := set(root, controller, "delete_controller", "1"); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("disconnect %s: %w", controller, err)
	}
	return Forget(root, controller)
}

// Rescan asks a controller for its namespaces anew.
func Rescan(root, controller string) error {
	if err := set(root, controller, "rescan_controller", "1"); err != nil {
		return fmt.Errorf("rescan %s: %w", controller, err)
	}
	return nil
}

// SetIOPolicy says how the paths of a subsystem ("nvme-subsys0") share the work: numa, round-robin or (6.11) queue-depth.
func SetIOPolicy(root, subsystem, policy string) error {
	if err := os.WriteFile(filepath.Join(root, "sys/class/nvme-subsystem", filepath.Base(subsystem), "iopolicy"), []byte(policy), 0); err != nil {
		return fmt.Errorf("set the I/O policy of %s to %s: %w", subsystem, policy, err)
	}
	return nil
}

func set(root, controller, attribute, value string) error {
	if !isController(controller) {
		return fmt.Errorf("%q is no NVMe controller", controller)
	}
	f, err := os.OpenFile(filepath.Join(root, "sys/class/nvme", controller, attribute), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
