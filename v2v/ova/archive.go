// Package ova reads virtual appliances: a tar with a description (OVF), a manifest of digests, and disks. A disk is read where it lies in the archive;
// nothing is unpacked.
//
// It follows DSP0243 1.1 and 2.1 (DMTF), and what vSphere, VirtualBox and ovftool write. What of the description is not about disks it
// leaves alone. It makes no appliances.
package ova

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"initd/v2v/image"
)

const name = "ova"

// Limits of what is read into memory, in bytes, and of how many members are taken.
const (
	maxMembers  = 1000
	maxOVF      = 8 << 20
	maxManifest = 1 << 20
)

// Member is a file of an archive.
type Member struct {
	Name string
	// Size is its length, Offset where it begins in the archive (-1 in a stream); both in bytes.
	Size, Offset int64
}

// Archive is what an appliance holds.
type Archive struct {
	Members []Member
	// Disks are the disks of the description, in its order.
	Disks []Disk
	// Manifest has what the digests ought to be, by the name of the file; nil without a manifest.
	Manifest map[string]Digest
	// Signed says that there is a certificate. It is not checked.
	Signed   bool
	Warnings []string

	img string
	ovf string // the description's name
}

// List reads an archive's table of contents, description and manifest. The description's digest is checked, those of the disks are not.
func List(ctx context.Context, src image.Source) (*Archive, error) {
	a := &Archive{img: src.Name()}
	section := io.NewSectionReader(src, 0, src.Size())
	tr := tar.NewReader(section)
	var manifest, ovf []byte
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := a.next(tr)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		m := Member{Name: path.Clean(h.Name), Size: h.Size, Offset: at}
		if at+h.Size > src.Size() {
			return nil, a.corrupt("ova-truncated", "%q has %d bytes from %d on, and the archive ends at %d: it was cut short", m.Name, m.Size, at, src.Size())
		}
		if err := a.add(m); err != nil {
			return nil, err
		}
		switch ext(m.Name) {
		case ".ovf":
			if ovf, err = a.small(tr, m, maxOVF); err != nil {
				return nil, err
			}
		case ".mf":
			if manifest, err = a.small(tr, m, maxManifest); err != nil {
				return nil, err
			}
		}
	}
	if err := a.describe(ovf); err != nil {
		return nil, err
	}
	for _, m := range a.Members {
		if err := a.respell(m); err != nil {
			return nil, err
		}
	}
	if err := a.setManifest(manifest); err != nil {
		return nil, err
	}
	return a, a.compare(a.ovf, digestsOf(ovf))
}

func ext(name string) string { return strings.ToLower(path.Ext(name)) }

// next gives the next member that is a file; nil for one that is passed over.
func (a *Archive) next(tr *tar.Reader) (*tar.Header, error) {
	h, err := tr.Next()
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, a.corrupt("ova-truncated", "the archive ends in the middle of a member: it was cut short")
	case errors.Is(err, tar.ErrHeader):
		return nil, a.corrupt("ova-tar", "the archive is damaged behind its member %d", len(a.Members))
	case err != nil:
		return nil, fmt.Errorf("%s: ova: read the archive: %w", a.img, err)
	}
	switch h.Typeflag {
	case tar.TypeReg: // the reader calls the type of old archives so too
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil, a.checkName(h.Name)
	case tar.TypeSymlink, tar.TypeLink:
		return nil, a.refuse("ova-link", "%q is a link to %.100q", h.Name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil, a.refuse("ova-device", "%q is a device", h.Name)
	default:
		return nil, a.refuse("ova-member-type", "%q is of the type %q, no plain file", h.Name, h.Typeflag)
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return nil, a.refuse("ova-member-type", "%q is stored with holes (GNU sparse)", h.Name)
		}
	}
	return h, a.checkName(h.Name)
}

func (a *Archive) checkName(n string) error {
	if n == "" || strings.HasPrefix(n, "/") || strings.ContainsAny(n, "\\\x00\n") || path.Clean("/"+n) != "/"+path.Clean(n) && path.Clean(n) != "." {
		return a.refuse("ova-name", "the member %.200q lies outside the archive", n)
	}
	return nil
}

// add takes a member into the table of contents.
func (a *Archive) add(m Member) error {
	if len(a.Members) == maxMembers {
		return &image.Error{Fault: image.TooLarge, Code: "ova-members", Image: a.img, Format: name, What: fmt.Sprintf("it has more than %d members", maxMembers)}
	}
	for _, o := range a.Members {
		if o.Name == m.Name {
			return a.refuse("ova-twice", "it has two members called %.200q", m.Name)
		}
	}
	switch e := ext(m.Name); {
	case len(a.Members) == 0 && e != ".ovf":
		return &image.Error{Fault: image.NotThis, Code: "ova-order", Image: a.img, Format: name, What: fmt.Sprintf("its first member is %.200q, and has to be the description (.ovf)", m.Name),
			Do: "unpack it and give the disk itself"}
	case e == ".ovf" && len(a.Members) > 0:
		return a.corrupt("ova-order", "it has two descriptions, %.200q and %.200q", a.ovf, m.Name)
	case e == ".ovf":
		a.ovf = m.Name
	case e == ".cert":
		a.Signed = true
		a.Warnings = append(a.Warnings, "it is signed ("+m.Name+"); the signature is not checked")
	}
	a.Members = append(a.Members, m)
	return a.respell(m)
}

// small reads a member into memory.
func (a *Archive) small(tr io.Reader, m Member, limit int64) ([]byte, error) {
	if m.Size > limit {
		return nil, &image.Error{Fault: image.TooLarge, Code: "ova-member-size", Image: a.img, Format: name, What: fmt.Sprintf("%q has %d bytes; at most %d are read", m.Name, m.Size, limit)}
	}
	b, err := io.ReadAll(io.LimitReader(tr, limit+1))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, a.corrupt("ova-truncated", "the archive ends in %q: it was cut short", m.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: ova: read %s: %w", a.img, m.Name, err)
	}
	return b, nil
}

// member finds a file by its name.
func (a *Archive) member(name string) (Member, bool) {
	for _, m := range a.Members {
		if m.Name == path.Clean(name) {
			return m, true
		}
	}
	return Member{}, false
}

// inFolder is where a file lies whose name counts from the description's folder, which is not always the archive's first.
func (a *Archive) inFolder(name string) string { return path.Join(path.Dir(a.ovf), name) }

// digest is what the manifest says of a member. Its names may count from the description's folder, too.
func (a *Archive) digest(member string) (Digest, bool) {
	if d, ok := a.Manifest[member]; ok {
		return d, true
	}
	for name, d := range a.Manifest {
		if a.inFolder(name) == member {
			return d, true
		}
	}
	return Digest{}, false
}

// respell finds the files of disks that a member is by its name from the description's folder, or as part of a URL ("my%20disk.vmdk"), unless
// there is one that is called so.
func (a *Archive) respell(m Member) error {
	for i, d := range a.Disks {
		if _, there := a.member(d.File); there || d.File == "" {
			continue
		}
		plain, err := url.PathUnescape(d.File)
		if err != nil {
			plain = d.File
		}
		if m.Name == plain || m.Name == a.inFolder(d.File) || m.Name == a.inFolder(plain) {
			a.Disks[i].File = m.Name
			if err := a.checkMember(d, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Choose gives the disk that is meant: by its id, by its file's name, or the only one there is.
func (a *Archive) Choose(which string) (Disk, error) {
	var with []Disk
	for _, d := range a.Disks {
		if d.File != "" {
			with = append(with, d)
		}
		if which != "" && (d.ID == which || d.File == which || d.File == a.inFolder(which) || a.inFolder(d.File) == which) {
			if d.File == "" {
				return d, &image.Error{Fault: image.Undeclared, Code: "ova-disk", Image: a.img, Format: name, What: fmt.Sprintf("the disk %q is empty: the description has no file for it", which)}
			}
			return d, nil
		}
	}
	var names []string
	for _, d := range with {
		names = append(names, fmt.Sprintf("%s (%s)", d.ID, d.File))
	}
	list := strings.Join(names, ", ")
	switch {
	case which != "":
		return Disk{}, &image.Error{Fault: image.Undeclared, Code: "ova-disk", Image: a.img, Format: name, What: fmt.Sprintf("it has no disk %q; it has %s", which, list), Do: "say one of them"}
	case len(with) == 0:
		return Disk{}, a.corrupt("ova-no-disk", "its description names no disk with a file")
	case len(with) > 1:
		return Disk{}, &image.Error{Fault: image.Undeclared, Code: "ova-several-disks", Image: a.img, Format: name, What: fmt.Sprintf("it has %d disks: %s", len(with), list), Do: "say which with --disk"}
	}
	return with[0], nil
}

func (a *Archive) corrupt(code, what string, args ...any) error {
	return image.Corruptf(a.img, name, code, what, args...)
}

func (a *Archive) refuse(code, what string, args ...any) error {
	return &image.Error{Fault: image.Refused, Code: code, Image: a.img, Format: name, What: fmt.Sprintf(what, args...), Do: "fetch it again from where it was made; if it is so there, unpack it and look"}
}
