package step

import (
	"fmt"
	"slices"

	"initd/hw/block/media"
	"initd/hw/mount"
)

// contentError is a device that does not hold the file system of the file.
type contentError struct {
	spec mount.Spec
	have string // what it holds; empty: nothing that is known
}

func (e *contentError) Error() string {
	have := e.have
	if have == "" {
		have = "no file system that is known"
	}
	return fmt.Sprintf("mount %s (%s): it holds %s, the file says %s", e.spec.Where, e.spec.Device, have, e.spec.Type)
}

// Code is the stable code of this error.
func (*contentError) Code() string { return "MOUNT-OTHER-CONTENT" }

// Object is what the report names.
func (e *contentError) Object() string { return e.spec.Where }

// Retryable: what a device holds does not change by itself.
func (*contentError) Retryable() bool { return false }

// holds looks before a check or a mount whether the device holds the file system
// of the file: fsck and the kernel only say that it is not what they want.
// A device that cannot be read is theirs to name.
func holds(s mount.Spec) error {
	kin := map[string][]string{"ext4": {"ext4", "ext3", "ext2"}, "xfs": {"xfs"}}[s.Type]
	if kin == nil {
		return nil
	}
	c, err := media.ProbeDevice(s.Device)
	switch {
	case err != nil || len(c.Ambivalent) > 0:
		return nil
	case c.Signature == nil:
		if c.Table != nil {
			return &contentError{s, "a partition table"}
		}
		return &contentError{s, ""}
	case !slices.Contains(kin, c.Signature.Type):
		return &contentError{s, c.Signature.Type}
	}
	return nil
}
