package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"initd/v2v/image"
)

// Format is the appliance as the disk in it. The disk may be of any of the given formats; a file's probe says which. OpenOptions.Disk says which
// disk, if there are several.
func Format(disks ...image.Format) image.Format {
	return image.Format{
		Name:  name,
		Probe: probe,
		Open: func(ctx context.Context, src image.Source, opt image.OpenOptions) (image.Reader, error) {
			return open(ctx, src, opt, disks)
		},
		OpenStream: func(ctx context.Context, r io.Reader, img string, opt image.OpenOptions) (image.Streamer, error) {
			return openStream(ctx, r, img, opt, disks)
		},
	}
}

// probe says yes to a tar whose first file is of an appliance: a description, or what has to come behind one, which is refused when it is opened.
func probe(head, _ []byte, _ int64) bool {
	if len(head) < 512 {
		return false
	}
	for tr := tar.NewReader(bytes.NewReader(head)); ; {
		h, err := tr.Next()
		switch {
		case err != nil:
			return false
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag != tar.TypeReg:
			return false
		}
		switch ext(h.Name) {
		case ".ovf", ".mf", ".cert", ".vmdk", ".vhd", ".vhdx", ".vdi", ".qcow2":
			return true
		}
		return false
	}
}

// open checks the disk's digest before it gives a reader: what is converted is what was signed for, or nothing is. That reads the disk's member
// once more, at the speed of the hash.
func open(ctx context.Context, src image.Source, opt image.OpenOptions, formats []image.Format) (image.Reader, error) {
	a, err := List(ctx, src)
	if err != nil {
		return nil, err
	}
	d, err := a.Choose(opt.Disk)
	if err != nil {
		return nil, err
	}
	m, ok := a.member(d.File)
	if !ok {
		return nil, a.corrupt("ova-no-file", "the file %.200q of the disk %.100q is not in the archive", d.File, d.ID)
	}
	in := &section{src: src, m: m}
	n := min(m.Size, 64<<10)
	head, tail := make([]byte, n), make([]byte, n)
	for _, part := range []struct {
		p  []byte
		at int64
	}{{head, 0}, {tail, m.Size - n}} {
		if k, err := in.ReadAt(part.p, part.at); k < len(part.p) {
			return nil, fmt.Errorf("%s: ova: read %s: %w", src.Name(), m.Name, err)
		}
	}
	f, err := a.detect(d, formats, func(f image.Format) bool { return f.Probe(head, tail, m.Size) })
	if err != nil {
		return nil, err
	}
	if err := a.Verify(ctx, src, d.File); err != nil {
		return nil, err
	}
	r, err := f.Open(ctx, in, opt)
	if err != nil {
		return nil, err
	}
	if err := a.checkCapacity(d, r.Size()); err != nil {
		_ = r.Close() // also src: the caller closes it again, which does no harm
		return nil, err
	}
	return &reader{Reader: r, shift: m.Offset, info: a.info(d, r.Info())}, nil
}

// detect chooses the format of a disk's file, which has to be the one that the description says.
func (a *Archive) detect(d Disk, formats []image.Format, is func(image.Format) bool) (image.Format, error) {
	var found []image.Format
	var names []string
	for _, f := range formats {
		if f.Name != "raw" { // nothing is known to be raw
			names = append(names, f.Name)
		}
		if is(f) {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		return image.Format{}, &image.Error{Fault: image.Unsupported, Code: "ova-disk-format", Image: a.img, Format: name,
			What: fmt.Sprintf("the file %.200q of the disk %.100q is not of one of the formats %s", d.File, d.ID, strings.Join(names, ", ")), Do: "unpack it and give the disk with -f"}
	}
	uri := strings.ToLower(d.Format)
	if strings.Contains(uri, "vmdk") && found[0].Name != "vmdk" {
		return image.Format{}, a.corrupt("ova-disk-format", "the description says that the disk %.100q is VMDK, and its file is %s", d.ID, found[0].Name)
	}
	return found[0], nil
}

// info describes the disk and the archive around it.
func (a *Archive) info(d Disk, in image.Info) image.Info {
	out := in
	out.Format = name
	out.Subformat = strings.TrimSpace(in.Format + " " + in.Subformat)
	add := func(n, v string) { out.Details = append(out.Details, image.Detail{Name: n, Value: v}) }
	out.Details = nil
	for _, m := range a.Members {
		v := fmt.Sprintf("%d bytes", m.Size)
		if g, ok := a.digest(m.Name); ok {
			v += ", " + g.Algorithm
		}
		add("member "+m.Name, v)
	}
	for _, o := range a.Disks {
		v := fmt.Sprintf("%d bytes", o.Capacity)
		if o.File != "" {
			v += ", in " + o.File
		} else {
			v += ", empty"
		}
		if o.ID == d.ID {
			v += " (this one)"
		}
		add("disk "+o.ID, v)
	}
	out.Details = append(out.Details, in.Details...)
	out.Warnings = append(append([]string(nil), a.Warnings...), in.Warnings...)
	return out
}

// section is a member as a source of its own.
type section struct {
	src image.Source
	m   Member
}

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.m.Size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > s.m.Size-off {
		p, eof = p[:s.m.Size-off], io.EOF
	}
	n, err := s.src.ReadAt(p, s.m.Offset+off)
	if n == len(p) {
		err = eof
	}
	return n, err
}

func (s *section) Size() int64  { return s.m.Size }
func (s *section) Name() string { return s.src.Name() + ":" + s.m.Name }
func (s *section) Close() error { return s.src.Close() }

func (s *section) Sibling(n string) (image.Source, error) {
	return nil, &image.Error{Fault: image.Refused, Code: "ova-sibling", Image: s.Name(), Format: name, What: fmt.Sprintf("the disk names a further file, %.200q", n), Do: "unpack the archive and give the disk itself"}
}

// reader is the disk, with places that count from the beginning of the archive.
type reader struct {
	image.Reader
	shift int64
	info  image.Info
}

func (r *reader) Info() image.Info { return r.info }

func (r *reader) Extents(from int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		for e, err := range r.Reader.Extents(from) {
			if e.Place >= 0 && e.Kind == image.Data && !e.Compressed {
				e.Place += r.shift
			}
			if !yield(e, err) {
				return
			}
		}
	}
}
