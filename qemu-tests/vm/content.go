package vm

import (
	"fmt"
	"os"
	"strings"
)

// Bytes is content as it is, from the image's first byte on.
type Bytes []byte

func (b Bytes) fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, 0)
	return err
}

// Ext4 is a file system made by mke2fs, with blocks of 4096 bytes, so that it mounts on disks with sectors of any size.
type Ext4 struct {
	Label string // at most 16 bytes
	UUID  string // random if empty
	Dir   string // a folder whose files it starts with; none if empty
}

func (e Ext4) fill(path string) error {
	args := []string{"-q", "-F", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0"}
	if e.Label != "" {
		args = append(args, "-L", e.Label)
	}
	if e.UUID != "" {
		args = append(args, "-U", e.UUID)
	}
	if e.Dir != "" {
		args = append(args, "-d", e.Dir)
	}
	_, err := tool("e2fsprogs", nil, nil, "mke2fs", append(args, path)...)
	return err
}

// XFS is a file system made by mkfs.xfs, which wants 300 MiB at least; its sectors have 4096 bytes, as Ext4's blocks.
type XFS struct {
	Label string // at most 12 bytes
	UUID  string // random if empty
}

func (x XFS) fill(path string) error {
	args := []string{"-q", "-f", "-s", "size=4096"}
	if x.Label != "" {
		args = append(args, "-L", x.Label)
	}
	if x.UUID != "" {
		args = append(args, "-m", "uuid="+x.UUID)
	}
	_, err := tool("xfsprogs", nil, nil, "mkfs.xfs", append(args, path)...)
	return err
}

// FAT is a file system made by mkfs.vfat.
type FAT struct {
	Label string // at most 11 bytes
}

func (f FAT) fill(path string) error {
	_, err := tool("dosfstools", nil, nil, "mkfs.vfat", "-n", f.Label, path)
	return err
}

// Swap is a swap area.
type Swap struct{ Label string }

func (s Swap) fill(path string) error {
	_, err := tool("util-linux", nil, nil, "mkswap", "-q", "-L", s.Label, path)
	return err
}

// partitionAlign is where partitions start and end, in bytes.
const partitionAlign = MiB

// GPT is a partition table with its partitions, in the order of their numbers, one after another from 1 MiB on.
type GPT []Partition

// Partition of a GPT.
type Partition struct {
	Label string // the partition's name; no quotes or commas
	Size  int64  // bytes, a multiple of MiB
	Type  string // GUID, or sfdisk's alias; "linux" if empty
	UUID  string // random if empty
	Content
}

func (g GPT) fill(path string) error {
	const sector = 512
	var script strings.Builder
	script.WriteString("label: gpt\n")
	start := int64(partitionAlign)
	for _, p := range g {
		if p.Size <= 0 || p.Size%partitionAlign != 0 {
			return fmt.Errorf("partition %s: %d bytes is no multiple of 1 MiB", p.Label, p.Size)
		}
		kind := p.Type
		if kind == "" {
			kind = "linux"
		}
		fmt.Fprintf(&script, "start=%d, size=%d, type=%s, name=%q", start/sector, p.Size/sector, kind, p.Label)
		if p.UUID != "" {
			fmt.Fprintf(&script, ", uuid=%s", p.UUID)
		}
		script.WriteString("\n")
		if p.Content != nil {
			if err := fillRegion(path, start, p.Size, p.Content); err != nil {
				return fmt.Errorf("partition %s: %w", p.Label, err)
			}
		}
		start += p.Size
	}
	_, err := tool("fdisk", []byte(script.String()), nil, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", "--wipe-partitions", "never", path)
	return err
}

// fillRegion makes content in a file of its own and copies it into the image.
func fillRegion(path string, offset, size int64, c Content) error {
	part := fmt.Sprintf("%s.at-%d", path, offset)
	defer os.Remove(part)
	if err := sparse(part, size); err != nil {
		return err
	}
	if err := c.fill(part); err != nil {
		return err
	}
	return copyRegion(path, offset, part)
}
