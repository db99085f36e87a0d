package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Bus is how a machine sees a disk.
type Bus string

const (
	Virtio Bus = "virtio-blk-pci" // module virtio_blk; the default
	NVMe   Bus = "nvme"           // module nvme
	SCSI   Bus = "scsi-hd"        // modules virtio_scsi, sd_mod; not while the machine runs
	ATA    Bus = "ide-hd"         // modules ata_piix, sd_mod; not while the machine runs
)

// maxSerial is what a virtio disk keeps of its serial number (virtio spec 5.2, VIRTIO_BLK_ID_BYTES).
const maxSerial = 20

// Disk is an image file that machines use as a disk: of one machine at a time, unless it is Shared. It lives as long as
// its test, over all boots.
type Disk struct {
	// Name is also the disk's serial number, and QEMU's id of the device.
	Name string
	// Path of the raw image.
	Path string
	// Bus, Virtio if empty.
	Bus Bus
	// ReadOnly disks refuse writes.
	ReadOnly bool
	// Shared disks may be in several machines at once, or twice in one.
	Shared bool
	// BlockSize in bytes, logical and physical; 512 if zero.
	BlockSize int
	// Props are further properties of the QEMU device, such as "wwn".
	Props map[string]any
}

// Content fills a file system, a partition table or an encrypted volume into an image.
type Content interface {
	// fill writes into the file at path, which is there, all zero, and has its final size.
	fill(path string) error
}

// NewDisk makes a disk of size bytes, sparse, and fills it with content, if any. The name has at most 20 bytes and
// starts with a letter.
func NewDisk(t testing.TB, name string, size int64, content ...Content) *Disk {
	t.Helper()
	if len(name) > maxSerial {
		t.Fatalf("disk %s: a serial number has at most %d bytes", name, maxSerial)
	}
	d := &Disk{Name: name, Path: filepath.Join(t.TempDir(), name+".img")}
	if err := sparse(d.Path, size); err != nil {
		t.Fatalf("disk %s: %v", name, err)
	}
	for _, c := range content {
		if err := c.fill(d.Path); err != nil {
			t.Fatalf("disk %s: %v", name, err)
		}
	}
	return d
}

// On sets the bus and returns the disk, for use in a chain.
func (d *Disk) On(bus Bus) *Disk {
	d.Bus = bus
	return d
}

func (d *Disk) node() string { return "disk-" + d.Name }

// blockdev gives the argument of -blockdev and blockdev-add. The host's cache is used and never flushed ('unsafe'): the
// image outlives the guest's crash, only not this machine's.
func (d *Disk) blockdev() string {
	file := members{"driver": "file", "filename": d.Path}
	if d.Shared {
		file["locking"] = "off"
	}
	return mustJSON(members{
		"driver": "raw", "node-name": d.node(), "file": file, "read-only": d.ReadOnly, "discard": "unmap",
		"cache": members{"direct": false, "no-flush": true},
	})
}

// device gives the argument of -device and device_add.
func (d *Disk) device() string {
	props := members{"driver": string(d.Bus), "id": d.Name, "drive": d.node(), "serial": d.Name}
	switch d.Bus {
	case "":
		props["driver"] = string(Virtio)
	case SCSI:
		props["bus"] = "scsi.0"
	}
	if d.Shared {
		props["share-rw"] = true
	}
	if d.BlockSize != 0 {
		props["logical_block_size"], props["physical_block_size"] = d.BlockSize, d.BlockSize
	}
	for k, v := range d.Props {
		props[k] = v
	}
	return mustJSON(props)
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // members of plain values marshal, except for what a test put into Props
	}
	return string(text)
}

func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// copyRegion copies a file into another one at an offset, leaving zeros as holes.
func copyRegion(to string, offset int64, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(copySparse(out, offset, in), out.Close())
}

func copySparse(out io.WriterAt, offset int64, in io.Reader) error {
	buf := make([]byte, 1<<16)
	zeros := make([]byte, len(buf))
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// tool runs a program of Debian's. stdin and extra files (from descriptor 3 on) carry what must not be on a command line.
func tool(debianPackage string, stdin []byte, extra [][]byte, name string, args ...string) ([]byte, error) {
	path, err := lookTool(name)
	if err != nil {
		return nil, fmt.Errorf("%s is missing: install the Debian package %s", name, debianPackage)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	for _, content := range extra {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		// A key fits into the pipe's buffer (64 KiB): writing never blocks.
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
		w.Close()
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w: %s", name, args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// lookTool finds a program also where only root's PATH points.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/lib/systemd", "/lib/systemd"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}
