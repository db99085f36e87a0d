package vmdk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"initd/v2v/image"
)

// probe says yes to hosted sparse extents, and to descriptors.
func probe(head, _ []byte, _ int64) bool {
	return len(head) >= sector && string(head[:4]) == magicSparse || isText(head)
}

// open opens a sparse file with its descriptor inside, or a descriptor with the files that it names.
func open(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
	head := make([]byte, min(src.Size(), sector))
	if err := image.ReadFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read its beginning: %w", src.Name(), err)
	}
	if err := foreign(src.Name(), head); err != nil {
		return nil, err
	}
	if len(head) == sector && string(head[:4]) == magicSparse {
		return openHosted(ctx, src, decodeHeader(head), opt)
	}
	return openText(ctx, src, opt)
}

// foreign refuses the sparse formats of ESXi's file system, by the first bytes of a file.
func foreign(img string, head []byte) error {
	switch {
	case len(head) >= 4 && string(head[:4]) == magicCOWD:
		return refused(img, "vmdk-cowd", "it is a vmfsSparse (COWD) extent: the delta of an ESXi snapshot", "consolidate the snapshots, or export the machine as OVF, and take the result")
	case len(head) >= 8 && string(head[:8]) == magicSESparse:
		return refused(img, "vmdk-sesparse", "it is a seSparse extent: the delta of an ESXi snapshot", "consolidate the snapshots, or export the machine as OVF, and take the result")
	}
	return nil
}

// openHosted opens a KDMV file, which is a whole disk.
func openHosted(ctx context.Context, src image.Source, h header, opt image.OpenOptions) (image.Reader, error) {
	if err := h.check(src.Name(), opt.MaxSize); err != nil {
		return nil, err
	}
	if h.descOffset == 0 || h.descSize == 0 {
		return nil, partOnly(src.Name())
	}
	if h.descSize > maxDescriptor/sector {
		return nil, tooLarge(src.Name(), "vmdk-descriptor", "a descriptor of %d sectors; at most %d are read", h.descSize, maxDescriptor/sector)
	}
	if h.descOffset >= maxFile || int64(h.descOffset+h.descSize)*sector > src.Size() {
		return nil, corrupt(src.Name(), "vmdk-descriptor", "the descriptor at sector %d, %d sectors long, does not fit the file", h.descOffset, h.descSize)
	}
	text := make([]byte, h.descSize*sector)
	if err := image.ReadFull(src, text, int64(h.descOffset)*sector); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read the descriptor: %w", src.Name(), err)
	}
	d, err := parseDescriptor(src.Name(), text)
	if err != nil {
		return nil, err
	}
	want, err := d.embedded(src.Name(), h)
	if err != nil {
		return nil, err
	}
	s, warnings, err := openSparse(ctx, src, h, 0, want)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	r.add(s)
	r.info = d.info(s.h, r.info.Size)
	r.info.Stored = src.Size()
	r.info.Warnings = append(r.info.Warnings, warnings...)
	return r, nil
}

func partOnly(img string) error {
	return refused(img, "vmdk-part", "it has no descriptor: it is one of the files of a disk that was split", "give the .vmdk text file that names it, with all its files beside it")
}

// embedded checks the descriptor that lies in a sparse file: it must describe that file and nothing else. Whatever name it gives is only what the file was
// called once. A descriptor that names other extents would make a reader open them: that is how host files were read through a
// header with the capacity 0. It returns the size of the disk in sectors.
func (d *descriptor) embedded(img string, h header) (int64, error) {
	const do = "fetch the image again from where it was made"
	total := int64(0)
	for _, e := range d.extents {
		total += e.sectors
	}
	if h.capacity == 0 {
		if total > 0 {
			return 0, refused(img, "vmdk-embedded-extents", fmt.Sprintf("its header has the capacity 0, and its descriptor names other files (%.100q)", d.extents[0].file), do)
		}
		return 0, nil
	}
	if len(d.extents) != 1 || d.extents[0].kind != "SPARSE" || d.extents[0].access == "NOACCESS" {
		return 0, refused(img, "vmdk-embedded-extents", "its descriptor should have one SPARSE extent, the file itself, and has "+d.list(), do)
	}
	return total, nil
}

// list is for messages.
func (d *descriptor) list() string {
	if len(d.extents) == 0 {
		return "none"
	}
	e := d.extents[0]
	s := fmt.Sprintf("%s %d %s %.100q", e.access, e.sectors, e.kind, e.file)
	if n := len(d.extents); n > 1 {
		s += fmt.Sprintf(" and %d more", n-1)
	}
	return s
}

// info describes a disk of one file.
func (d *descriptor) info(h header, size int64) image.Info {
	i := image.Info{Format: name, Subformat: d.createType, Size: size, Unit: h.grainBytes, Stored: -1}
	is := "monolithicSparse"
	if h.compressed() {
		is, i.Compressed = "streamOptimized", "zlib"
	}
	switch {
	case i.Subformat == "":
		i.Subformat = is
	case !strings.EqualFold(i.Subformat, is):
		i.Warnings = append(i.Warnings, fmt.Sprintf("the descriptor says %s, and the header %s", d.createType, is))
		i.Subformat = is
	}
	i.Details = append([]image.Detail{{Name: "version", Value: strconv.Itoa(int(h.version))}, {Name: "flags", Value: fmt.Sprintf("%#x", h.flags)}}, d.details()...)
	return i
}

// openText opens a descriptor that is a file of its own.
func openText(ctx context.Context, src image.Source, opt image.OpenOptions) (_ image.Reader, err error) {
	if src.Size() > maxDescriptor {
		head := make([]byte, 16<<10)
		if err := image.ReadFull(src, head, 0); err == nil && isText(head) {
			return nil, tooLarge(src.Name(), "vmdk-descriptor", "a descriptor of %d bytes; at most %d are read", src.Size(), maxDescriptor)
		}
		return nil, notThis(src.Name())
	}
	text := make([]byte, src.Size())
	if err := image.ReadFull(src, text, 0); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read the descriptor: %w", src.Name(), err)
	}
	if !isText(text) {
		return nil, notThis(src.Name())
	}
	d, err := parseDescriptor(src.Name(), text)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, e := range d.extents {
		if total += e.sectors; total > maxSize/sector {
			return nil, tooLarge(src.Name(), "vmdk-size", "the extents have more than %d sectors (64 TiB) together", int64(maxSize/sector))
		}
	}
	if opt.MaxSize > 0 && total > opt.MaxSize/sector {
		return nil, image.TooLargef(src.Name(), name, total*sector, opt.MaxSize)
	}
	if len(d.extents) == 0 {
		return nil, corrupt(src.Name(), "vmdk-descriptor", "the descriptor names no extent")
	}
	if err := d.checkFiles(src.Name()); err != nil {
		return nil, err
	}
	r := &reader{}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	r.info = image.Info{Format: name, Subformat: d.createType, Stored: src.Size(), Details: d.details()}
	for _, e := range d.extents {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := r.addExtent(ctx, src, d, e); err != nil {
			return nil, err
		}
	}
	r.also = src
	return r, nil
}

func notThis(img string) error {
	return &image.Error{Fault: image.NotThis, Code: "vmdk-magic", Image: img, Format: name, What: "neither a sparse extent nor a descriptor"}
}

// scheme is how qemu-img recognises that a name is not one of a file.
var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// checkFiles refuses names that lead elsewhere, and ranges of a file that are used twice.
func (d *descriptor) checkFiles(img string) error {
	const do = "copy all files of the disk into one directory and name them there"
	type use struct {
		file     string
		from, to int64
	}
	var uses []use
	for _, e := range d.extents {
		switch {
		case e.kind == "ZERO":
			continue
		case strings.ContainsAny(e.file, "/\\\x00") || e.file == "." || e.file == "..":
			return refused(img, "vmdk-extent-outside", fmt.Sprintf("the extent %.200q lies outside the image's directory", e.file), do)
		case scheme.MatchString(e.file):
			return refused(img, "vmdk-extent-outside", fmt.Sprintf("the extent %.200q is not the name of a file", e.file), do)
		case e.file == path.Base(img):
			return refused(img, "vmdk-extent-self", "an extent is the descriptor itself", "fetch the image again from where it was made")
		}
		u := use{file: e.file, to: 1 << 62}
		if e.kind == "FLAT" || e.kind == "VMFS" {
			u.from, u.to = e.offset, e.offset+e.sectors
		}
		uses = append(uses, u)
	}
	slices.SortFunc(uses, func(a, b use) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		if a.from < b.from {
			return -1
		}
		return 1
	})
	for i := 1; i < len(uses); i++ {
		if a, b := uses[i-1], uses[i]; a.file == b.file && b.from < a.to {
			return corrupt(img, "vmdk-overlap", "two extents use the same part of %.200q", a.file)
		}
	}
	return nil
}

// addExtent opens what a line of the descriptor names.
func (r *reader) addExtent(ctx context.Context, main image.Source, d *descriptor, e extentLine) error {
	const do = "export the machine as OVF, or clone the disk, and take the result"
	if e.access == "NOACCESS" {
		return unsupported(main.Name(), "vmdk-noaccess", fmt.Sprintf("the extent %.200q may not be accessed (NOACCESS)", e.file), do)
	}
	switch e.kind {
	case "ZERO":
		r.add(zero{bytes: e.sectors * sector})
		return nil
	case "FLAT", "VMFS", "SPARSE":
	case "VMFSSPARSE", "SESPARSE":
		return refused(main.Name(), "vmdk-delta", fmt.Sprintf("the extent %.200q is %s, the delta of an ESXi snapshot", e.file, e.kind), "consolidate the snapshots, or clone the disk, and take the result")
	case "VMFSRDM", "VMFSRAW":
		return refused(main.Name(), "vmdk-raw-device", fmt.Sprintf("the extent %.200q is %s: the data are on a device", e.file, e.kind), "clone the disk into files first")
	default:
		return unsupported(main.Name(), "vmdk-extent-type", fmt.Sprintf("the extent %.200q has the unknown type %.40q", e.file, e.kind), do)
	}
	if e.sectors == 0 {
		return nil
	}
	src, err := openSibling(main, d.fileNames(e))
	if err != nil {
		return err
	}
	file := len(r.info.Files) + 1
	var p part
	switch e.kind {
	case "SPARSE":
		p, err = r.sparseExtent(ctx, src, e, file, len(d.extents))
	default:
		p, err = flatExtent(src, e, file)
	}
	if err != nil {
		_ = src.Close()
		return err
	}
	r.info.Files = append(r.info.Files, e.file)
	r.info.Stored += src.Size()
	r.add(p)
	return nil
}

func openSibling(main image.Source, names []string) (image.Source, error) {
	var first error
	for _, n := range names {
		src, err := main.Sibling(n)
		if err == nil {
			return src, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	var known *image.Error
	if errors.As(first, &known) {
		return nil, first
	}
	return nil, fmt.Errorf("%s: vmdk: open the extent %.200q: %w", main.Name(), names[0], first)
}

func flatExtent(src image.Source, e extentLine, file int) (part, error) {
	f := &flat{src: src, file: file, offset: e.offset * sector, bytes: e.sectors * sector}
	if f.offset+f.bytes > src.Size() {
		return nil, corrupt(src.Name(), "vmdk-extent-short", "the descriptor says %d sectors from sector %d, and the file ends at byte %d", e.sectors, e.offset, src.Size())
	}
	return f, nil
}

func (r *reader) sparseExtent(ctx context.Context, src image.Source, e extentLine, file, extents int) (part, error) {
	head := make([]byte, sector)
	if src.Size() < sector {
		return nil, corrupt(src.Name(), "vmdk-extent-short", "a sparse extent of %d bytes", src.Size())
	}
	if err := image.ReadFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read the header: %w", src.Name(), err)
	}
	if err := foreign(src.Name(), head); err != nil {
		return nil, err
	}
	if string(head[:4]) != magicSparse {
		return nil, corrupt(src.Name(), "vmdk-magic", "the descriptor calls it a sparse extent, and it is none")
	}
	h := decodeHeader(head)
	if err := h.check(src.Name(), 0); err != nil {
		return nil, err
	}
	if h.descSize > 0 && (h.descOffset >= maxFile || h.descSize >= maxFile || int64(h.descOffset+h.descSize)*sector > src.Size()) {
		return nil, corrupt(src.Name(), "vmdk-descriptor", "the descriptor at sector %d, %d sectors long, does not fit the file", h.descOffset, h.descSize)
	}
	s, warnings, err := openSparse(ctx, src, h, file, e.sectors)
	if err != nil {
		return nil, err
	}
	if h.compressed() {
		r.info.Compressed = "zlib"
	}
	s.tables.keep = max(4, cachedTables/extents)
	r.info.Unit = max(r.info.Unit, s.h.grainBytes)
	r.info.Warnings = append(r.info.Warnings, warnings...)
	return s, nil
}
