package iscsi

import (
	"errors"

	"initd/hw/sysfs"
)

// Host is this machine's side of sessions: what it shows of them, how it is told, and what is remembered.
type Host struct {
	Sys     *sysfs.FS
	Kernel  *Kernel
	Records Records
}

// OpenHost opens the kernel's software iSCSI, which has to be loaded; run is the folder below which sessions are remembered.
func OpenHost(run string) (*Host, error) {
	sys, err := sysfs.Open("/")
	if err != nil {
		return nil, err
	}
	k, err := OpenKernel(sys)
	if err != nil {
		return nil, errors.Join(err, sys.Close())
	}
	h := &Host{Sys: sys, Kernel: k, Records: RecordsAt(run)}
	k.moved = h.Records.update
	return h, nil
}

// Close lets go of the kernel.
func (h *Host) Close() error { return errors.Join(h.Kernel.Close(), h.Sys.Close()) }
