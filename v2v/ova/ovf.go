package ova

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"

	"initd/v2v/image"
)

// Disk is a disk of the description.
type Disk struct {
	ID string
	// File is the member that has its data; empty for a disk that is made empty.
	File string
	// Capacity is the virtual size in bytes that the description says, a multiple of Unit; -1 if it says none that can be understood.
	Capacity, Unit int64
	// Format is the URI of the disk's format.
	Format string

	said string // the length of the file that the description says; empty if it says none
}

// checkMember holds the length of a disk's file against the description.
func (a *Archive) checkMember(d Disk, m Member) error {
	if d.said != "" && d.said != strconv.FormatInt(m.Size, 10) {
		return a.corrupt("ova-size", "the description says that %.200q has %.30s bytes, and it has %d", m.Name, d.said, m.Size)
	}
	return nil
}

// envelope has what is read of a description. Names are matched in any name space: versions differ in it.
type envelope struct {
	XMLName xml.Name `xml:"Envelope"`
	Files   []struct {
		ID          string `xml:"id,attr"`
		Href        string `xml:"href,attr"`
		Size        string `xml:"size,attr"`
		Compression string `xml:"compression,attr"`
		ChunkSize   string `xml:"chunkSize,attr"`
	} `xml:"References>File"`
	Disks []diskElement `xml:"DiskSection>Disk"`
	// Version 0.9 has sections by their type.
	Old []struct {
		Disks []diskElement `xml:"Disk"`
	} `xml:"Section"`
}

type diskElement struct {
	ID       string `xml:"diskId,attr"`
	FileRef  string `xml:"fileRef,attr"`
	Capacity string `xml:"capacity,attr"`
	Units    string `xml:"capacityAllocationUnits,attr"`
	Format   string `xml:"format,attr"`
	Parent   string `xml:"parentRef,attr"`
}

// describe reads the description.
func (a *Archive) describe(ovf []byte) error {
	if a.ovf == "" {
		return &image.Error{Fault: image.NotThis, Code: "ova-order", Image: a.img, Format: name, What: "it is empty"}
	}
	var e envelope
	d := xml.NewDecoder(bytes.NewReader(ovf))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		switch strings.ToLower(charset) {
		case "us-ascii", "ascii", "iso-8859-1", "windows-1252":
			return in, nil // names of disks and files are ASCII; what else there is is not read
		}
		return nil, fmt.Errorf("the character set %q is not known", charset)
	}
	if err := d.Decode(&e); err == io.EOF {
		return a.corrupt("ova-ovf", "the description %s holds no XML", a.ovf)
	} else if err != nil {
		return a.corrupt("ova-ovf", "the description %s: %v", a.ovf, err)
	}
	type file struct{ href, size string }
	files := map[string]file{}
	for _, f := range e.Files {
		href, err := a.href(f.Href, f.Compression, f.ChunkSize)
		if err != nil {
			return err
		}
		if _, twice := files[f.ID]; twice {
			return a.corrupt("ova-ovf", "the description has two files with the id %.100q", f.ID)
		}
		files[f.ID] = file{href, f.Size}
	}
	disks := e.Disks
	for _, s := range e.Old {
		disks = append(disks, s.Disks...)
	}
	seen := map[string]bool{}
	for _, d := range disks {
		if seen[d.ID] {
			return a.corrupt("ova-ovf", "the description has two disks with the id %.100q", d.ID)
		}
		seen[d.ID] = true
		if d.Parent != "" {
			return a.refuse("ova-delta", "the disk %.100q is a delta of %.100q", d.ID, d.Parent)
		}
		disk := Disk{ID: d.ID, Format: d.Format}
		disk.Capacity, disk.Unit = capacity(d.Capacity, d.Units)
		if d.FileRef != "" {
			f, ok := files[d.FileRef]
			if !ok {
				return a.corrupt("ova-ovf", "the disk %.100q refers to the file %.100q, which the description does not have", d.ID, d.FileRef)
			}
			disk.File, disk.said = f.href, f.size
			if m, there := a.member(f.href); there {
				if err := a.checkMember(disk, m); err != nil {
					return err
				}
			}
		}
		a.Disks = append(a.Disks, disk)
	}
	return nil
}

// href checks a file of the references, and gives its member's name.
func (a *Archive) href(href, compression, chunk string) (string, error) {
	if strings.Contains(href, ":") || strings.HasPrefix(href, "/") || strings.ContainsAny(href, "\\\x00") || path.Clean("/"+href) != "/"+path.Clean(href) {
		return "", a.refuse("ova-name", "the description names the file %.200q, which is not in the archive", href)
	}
	if compression != "" && compression != "identity" {
		return "", &image.Error{Fault: image.Unsupported, Code: "ova-compression", Image: a.img, Format: name, What: fmt.Sprintf("the file %.200q is compressed as a whole (%.40q)", href, compression), Do: "export it without compression"}
	}
	if chunk != "" {
		return "", &image.Error{Fault: image.Unsupported, Code: "ova-chunks", Image: a.img, Format: name, What: fmt.Sprintf("the file %.200q is cut into chunks", href), Do: "export it in one piece"}
	}
	return path.Clean(href), nil
}

// capacity gives the size of a disk in bytes and what it is a multiple of; -1 for what is not understood (a property of the machine, ${…}).
func capacity(word, units string) (bytes, unit int64) {
	n, err := strconv.ParseInt(word, 10, 64)
	unit = allocationUnit(units)
	if err != nil || n < 0 || unit <= 0 || n > math.MaxInt64/unit {
		return -1, max(unit, 1)
	}
	return n * unit, unit
}

// allocationUnit understands DSP0004's programmatic units of bytes ("byte * 2^30") and the words of OVF 0.9; 0 for others.
func allocationUnit(s string) int64 {
	s = strings.ToLower(strings.ReplaceAll(s, " ", ""))
	switch s {
	case "", "byte", "bytes":
		return 1
	case "kilobytes", "kb":
		return 1 << 10
	case "megabytes", "mb":
		return 1 << 20
	case "gigabytes", "gb":
		return 1 << 30
	}
	rest, ok := strings.CutPrefix(s, "byte*")
	if !ok {
		return 0
	}
	unit := int64(1)
	for f := range strings.SplitSeq(rest, "*") {
		base, power, raised := strings.Cut(f, "^")
		b, err := strconv.ParseInt(base, 10, 64)
		p := int64(1)
		if raised && err == nil {
			p, err = strconv.ParseInt(power, 10, 64)
		}
		if err != nil || b < 1 || p < 0 || p > 62 {
			return 0
		}
		for range p {
			if unit > math.MaxInt64/b {
				return 0
			}
			unit *= b
		}
	}
	return unit
}

// checkCapacity holds a disk's size against its description. The description may have it rounded up to its unit.
func (a *Archive) checkCapacity(d Disk, size int64) error {
	if d.Capacity < 0 || size == d.Capacity || size < d.Capacity && d.Capacity-size < d.Unit {
		return nil
	}
	return a.corrupt("ova-capacity", "the description says that the disk %.100q has %d bytes, and %s has %d", d.ID, d.Capacity, d.File, size)
}
