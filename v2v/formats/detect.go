package formats

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"initd/v2v/image"
)

// probeBytes is how much of either end of a file is looked at.
const probeBytes = 64 << 10

// Codes of an undeclared file that no format matches: a raw disk, if anything.
const (
	CodeNothing = "undeclared-raw"
	CodeOverlay = "undeclared-overlay" // it is a CD or a tar too, which a disk may be as it stands
)

// Found is all that a file could be.
type Found struct {
	// Formats are those whose rule matches, in the order of All.
	Formats []image.Format
	// Foreign are further things that it begins or ends like.
	Foreign []Foreign
}

// Foreign is a kind of file that is recognised, and is none of the formats.
type Foreign struct {
	// Name is what people call it, Code the refusal's.
	Name, Code string
	// Overlay kinds (an ISO file system, a tar) are also what a raw disk may hold: alone they are no format of a disk.
	Overlay bool
	// Do says what helps.
	Do    string
	match func(head, tail []byte) bool
}

func at(off int, magic string) func(head, tail []byte) bool {
	return func(head, _ []byte) bool {
		return len(head) >= off+len(magic) && string(head[off:off+len(magic)]) == magic
	}
}

// isTar says whether a file begins with a header whose checksum is right, which no disk does by chance.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}

// isOVF looks for the envelope of an appliance's description.
func isOVF(head, _ []byte) bool {
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
	return bytes.HasPrefix(text, []byte("<")) && bytes.Contains(text, []byte("Envelope")) && bytes.Contains(text, []byte("/ovf/envelope"))
}

// foreign lists what is recognised and refused.
func foreign() []Foreign {
	unpack := "unpack it first"
	return []Foreign{
		{Name: "qcow version 1", Code: "qcow1", Do: "convert it with qemu-img convert -f qcow -O qcow2", match: at(0, "QFI\xfb\x00\x00\x00\x01")},
		{Name: "a qcow of an unknown version", Code: "qcow-version", Do: "only the versions 2 and 3 exist today", match: func(head, _ []byte) bool {
			return bytes.HasPrefix(head, []byte("QFI\xfb")) && (len(head) < 8 || binary.BigEndian.Uint32(head[4:]) == 0 || binary.BigEndian.Uint32(head[4:]) > 3)
		}},
		{Name: "QED", Code: "qed", Do: "convert it with qemu-img convert -f qed -O qcow2", match: at(0, "QED\x00")},
		{Name: "Parallels", Code: "parallels", Do: "convert it with qemu-img convert -f parallels -O qcow2", match: func(head, _ []byte) bool {
			return bytes.HasPrefix(head, []byte("WithoutFreeSpace")) || bytes.HasPrefix(head, []byte("WithouFreSpacExt"))
		}},
		{Name: "a LUKS volume", Code: "luks", Do: "unlock it first; to copy it as it is, encrypted, say -f raw", match: at(0, "LUKS\xba\xbe")},
		{Name: "VMFS sparse (COWD), a snapshot of ESXi", Code: "vmdk-cowd", Do: "consolidate the snapshots, then export the machine", match: at(0, "COWD")},
		{Name: "seSparse, a snapshot of ESXi", Code: "vmdk-sesparse", Do: "consolidate the snapshots, then export the machine", match: at(0, "\xbe\xba\xfe\xca\x00\x00\x00\x00")},
		{Name: "an Apple disk image (dmg)", Code: "dmg", Do: "convert it with qemu-img convert -f dmg -O raw", match: func(_, tail []byte) bool {
			return len(tail) >= 512 && string(tail[len(tail)-512:len(tail)-508]) == "koly"
		}},
		{Name: "Bochs", Code: "bochs", Do: "convert it with qemu-img convert -f bochs -O raw", match: at(0, "Bochs Virtual HD Image")},
		{Name: "a gzip file", Code: "packed-gzip", Do: unpack, match: at(0, "\x1f\x8b\x08")},
		{Name: "an xz file", Code: "packed-xz", Do: unpack, match: at(0, "\xfd7zXZ\x00")},
		{Name: "a zstd file", Code: "packed-zstd", Do: unpack, match: at(0, "\x28\xb5\x2f\xfd")},
		{Name: "a bzip2 file", Code: "packed-bzip2", Do: unpack, match: at(0, "BZh")},
		{Name: "a zip file", Code: "packed-zip", Do: unpack, match: at(0, "PK\x03\x04")},
		{Name: "an lz4 file", Code: "packed-lz4", Do: unpack, match: at(0, "\x04\x22\x4d\x18")},
		{Name: "an lzop file", Code: "packed-lzop", Do: unpack, match: at(0, "\x89LZO\x00\r\n\x1a\n")},
		{Name: "cloop", Code: "cloop", Do: "convert it with qemu-img convert -f cloop -O raw", match: at(0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n")},
		{Name: "an OVF description", Code: "ovf", Do: "give the disk's file, or the whole appliance (OVA)", match: isOVF},
		{Name: "a 7z file", Code: "packed-7z", Do: unpack, match: at(0, "7z\xbc\xaf\x27\x1c")},
		{Name: "a tar archive", Code: "tar", Do: unpack + "; if it is a disk as it stands, say -f raw", match: func(head, _ []byte) bool { return isTar(head) }},
		{Name: "a tar archive", Code: "tar", Overlay: true, match: func(head, tail []byte) bool { return !isTar(head) && at(257, "ustar")(head, tail) }},
		{Name: "an ISO 9660 file system", Code: "iso", Overlay: true, Do: "say -f raw if it is a disk as it stands", match: at(32769, "CD001")},
	}
}

// Detect asks every rule. It reads both ends of the file.
func Detect(src image.Source) (Found, error) {
	head, tail, err := ends(src)
	if err != nil {
		return Found{}, fmt.Errorf("%s: read its ends to find out the format: %w", src.Name(), err)
	}
	var found Found
	for _, f := range All() {
		if f.Probe(head, tail, src.Size()) {
			found.Formats = append(found.Formats, f)
		}
	}
	for _, f := range foreign() {
		if f.match(head, tail) {
			found.Foreign = append(found.Foreign, f)
		}
	}
	return found, nil
}

func ends(src image.Source) (head, tail []byte, err error) {
	n := min(src.Size(), probeBytes)
	head, tail = make([]byte, n), make([]byte, n)
	if err = image.ReadFull(src, head, 0); err == nil {
		err = image.ReadFull(src, tail, src.Size()-n)
	}
	return head, tail, err
}

// choose holds what was found against what was declared; want is the zero Format where nothing was.
func (f Found) choose(name string, want image.Format) (image.Format, error) {
	ova := len(f.Formats) > 0 && f.Formats[0].Name == "ova"
	words := f.words(ova)
	if want.Name != "" {
		for _, g := range f.Formats {
			if g.Name == want.Name {
				return want, nil
			}
		}
		e := &image.Error{Fault: image.NotThis, Code: "declared-differs", Image: name, Format: want.Name}
		if len(words) == 0 {
			e.What, e.Do = "the file is not of this format, nor of another that is known", "look at it with v2v info, or say -f raw if it is a plain disk"
		} else {
			e.What, e.Do = fmt.Sprintf("declared so, but the file is %s", strings.Join(words, " and ")), "declare what it is, or fetch it again"
		}
		return image.Format{}, e
	}
	switch {
	case len(words) > 1:
		return image.Format{}, &image.Error{Fault: image.Undeclared, Code: "polyglot", Image: name,
			What: fmt.Sprintf("could be %s", strings.Join(words, " and ")), Do: "say which with -f"}
	case len(f.Formats) == 1:
		return f.Formats[0], nil
	case len(f.Foreign) == 1 && !f.Foreign[0].Overlay:
		g := f.Foreign[0]
		return image.Format{}, &image.Error{Fault: image.Unsupported, Code: g.Code, Image: name, What: "is " + g.Name + ", which is not read here", Do: g.Do}
	}
	what, code := "matches no format", CodeNothing
	if len(words) == 1 {
		what, code = what+", and looks like "+words[0], CodeOverlay
	}
	return image.Format{}, &image.Error{Fault: image.Undeclared, Code: code, Image: name,
		What: what, Do: "if it is a plain disk, say so with -f raw"}
}

func (f Found) words(ova bool) []string {
	var words []string
	for _, g := range f.Formats {
		words = append(words, g.Name)
	}
	for _, g := range f.Foreign {
		if ova && g.Code == "tar" {
			continue
		}
		words = append(words, g.Name)
	}
	return words
}
