package lio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"initd/hw/uevent"
)

// debugDevices is the driver of the module scsi_debug, which plays devices of any type (drivers/scsi/scsi_debug.c).
const debugDevices = "/sys/bus/pseudo/drivers/scsi_debug"

// deviceGuard bounds how long a device may take to come.
const deviceGuard = time.Minute

// device makes a SCSI device of a type, and passes it through as a backstore (module target_core_pscsi).
func (m *Machine) device(name string, kind int) (string, error) {
	ctx, cancel := context.WithTimeout(m.ctx, deviceGuard)
	defer cancel()
	events, err := uevent.Subscribe(ctx, uevent.Kernel)
	if err != nil {
		return "", err
	}
	before, err := debugHosts()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(debugDevices+"/ptype", []byte(strconv.Itoa(kind)), 0); err != nil {
		return "", fmt.Errorf("a device of type %d (module scsi_debug): %w", kind, err)
	}
	if err := os.WriteFile(debugDevices+"/add_host", []byte("1"), 0); err != nil {
		return "", fmt.Errorf("a device of type %d: %w", kind, err)
	}
	after, err := debugHosts()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(after, func(h string) bool { return !slices.Contains(before, h) })
	if i < 0 {
		return "", fmt.Errorf("a device of type %d: there is no new host beside %q", kind, before)
	}
	address := after[i] + ":0:0:0"
	for there := false; !there; { // the host looks for its devices by itself
		select {
		case <-events:
			_, err := os.Stat("/sys/bus/scsi/devices/" + address)
			there = err == nil
		case <-ctx.Done():
			return "", fmt.Errorf("a device of type %d: %s does not come", kind, address)
		}
	}
	store := "core/pscsi_0/" + name
	if err := m.tree.Make(store); err != nil {
		return "", err
	}
	return store, m.tree.SetAll(store+"/control", fmt.Sprintf("scsi_host_id=%s,scsi_channel_id=0,scsi_target_id=0,scsi_lun_id=0", after[i]),
		store+"/udev_path", "/dev/null", // it wants one, and opens those of disks only
		store+"/enable", "1")
}

// debugHosts are the numbers of the driver's SCSI hosts.
func debugHosts() ([]string, error) {
	list, err := filepath.Glob("/sys/bus/pseudo/devices/adapter*/host*")
	for i, h := range list {
		list[i] = strings.TrimPrefix(filepath.Base(h), "host")
	}
	return list, err
}
