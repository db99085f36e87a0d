package vmdk

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"initd/v2v/image"
)

// descriptor is the text that says what a disk is made of.
type descriptor struct {
	version    int
	cid        string
	parentCID  string
	parentHint string
	createType string
	encoding   string
	extents    []extentLine
	// ddb has what is said of the virtual machine, without "ddb.", by lower-case key.
	ddb map[string]string
}

// extentLine is `RW 4192256 SPARSE "disk-s001.vmdk"`; sizes are sectors.
type extentLine struct {
	access, kind, file string
	sectors, offset    int64
}

// parseDescriptor reads the text up to a NUL. Keys and words are case-insensitive, lines may end in CR LF, values may be quoted.
func parseDescriptor(img string, text []byte) (*descriptor, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	d := &descriptor{ddb: map[string]string{}}
	seen := map[string]bool{}
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if e, ok, err := parseExtent(line); err != nil {
			return nil, corrupt(img, "vmdk-descriptor", "line %d of the descriptor: %v", number+1, err)
		} else if ok {
			if len(d.extents) == maxExtents {
				return nil, tooLarge(img, "vmdk-descriptor", "the descriptor names more than %d extents", maxExtents)
			}
			d.extents = append(d.extents, e)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, corrupt(img, "vmdk-descriptor", "line %d of the descriptor is neither an extent nor a key: %.60q", number+1, line)
		}
		key, value = strings.ToLower(strings.TrimSpace(key)), unquote(strings.TrimSpace(value))
		if known(key) && seen[key] {
			return nil, corrupt(img, "vmdk-descriptor", "line %d of the descriptor says %s a second time", number+1, key)
		}
		seen[key] = true
		if err := d.set(key, value); err != nil {
			return nil, corrupt(img, "vmdk-descriptor", "line %d of the descriptor: %v", number+1, err)
		}
	}
	return d, d.check(img, seen)
}

// known are the keys that decide how a disk is read: said twice, two readers would read two disks.
func known(key string) bool {
	switch key {
	case "version", "cid", "parentcid", "parentfilenamehint", "createtype", "encoding":
		return true
	}
	return false
}

func (d *descriptor) set(key, value string) error {
	switch key {
	case "version":
		v, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("version is no number: %.20q", value)
		}
		d.version = v
	case "encoding":
		d.encoding = value
	case "cid":
		d.cid = strings.ToLower(value)
	case "parentcid":
		d.parentCID = strings.ToLower(value)
	case "parentfilenamehint":
		d.parentHint = value
	case "createtype":
		d.createType = value
	default:
		if k, ok := strings.CutPrefix(key, "ddb."); ok {
			d.ddb[k] = value
		}
	}
	return nil
}

// check is for what does not depend on the kind of file that the descriptor is in.
func (d *descriptor) check(img string, seen map[string]bool) error {
	switch {
	case !seen["version"]:
		return corrupt(img, "vmdk-descriptor", "the descriptor has no version")
	case d.version < 1 || d.version > 3:
		return unsupported(img, "vmdk-version", fmt.Sprintf("the descriptor has version %d, and 1 to 3 are known", d.version), "convert it with the program that wrote it")
	case d.parentHint != "":
		return refused(img, "vmdk-delta", fmt.Sprintf("it is a delta of %.100q", d.parentHint), "consolidate the snapshots, or clone the disk, and take the result")
	case seen["parentcid"] && strings.TrimLeft(d.parentCID, "0") != cidNoParent:
		return refused(img, "vmdk-delta", fmt.Sprintf("it is a delta of the disk with the CID %.20s", d.parentCID), "consolidate the snapshots, or clone the disk, and take the result")
	}
	switch strings.ToLower(d.createType) {
	case "fulldevice", "partitioneddevice", "vmfsraw", "vmfsrdm", "vmfsrdmp", "vmfsrawdevicemap", "vmfspassthroughrawdevicemap":
		return refused(img, "vmdk-raw-device", fmt.Sprintf("its type is %s: the data are on a device, not in files", d.createType), "clone the disk into files first")
	case "vmfssparse", "sesparse":
		return refused(img, "vmdk-delta", fmt.Sprintf("its type is %s, the delta of an ESXi snapshot", d.createType), "consolidate the snapshots, or clone the disk, and take the result")
	}
	return nil
}

// parseExtent says no to lines that are not of an extent.
func parseExtent(line string) (extentLine, bool, error) {
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		return extentLine{}, false, nil
	}
	access, rest := strings.ToUpper(line[:end]), line[end:]
	if access != "RW" && access != "RDONLY" && access != "NOACCESS" {
		return extentLine{}, false, nil
	}
	fields, quoted, after := rest, "", ""
	if i := strings.IndexByte(rest, '"'); i >= 0 {
		j := strings.LastIndexByte(rest, '"')
		if i == j {
			return extentLine{}, false, fmt.Errorf("the name of an extent has one quote: %.100q", line)
		}
		fields, quoted, after = rest[:i], rest[i+1:j], rest[j+1:]
	}
	words := strings.Fields(fields)
	if len(words) != 2 {
		return extentLine{}, false, fmt.Errorf("an extent is said as ACCESS SECTORS TYPE \"NAME\": %.100q", line)
	}
	e := extentLine{access: access, kind: strings.ToUpper(words[1]), file: quoted}
	var err error
	if e.sectors, err = strconv.ParseInt(words[0], 10, 64); err != nil || e.sectors < 0 || e.sectors > maxSize/sector {
		return extentLine{}, false, fmt.Errorf("an extent of %.30q sectors", words[0])
	}
	// Raw devices have more words behind the offset; they are refused by their type.
	if more := strings.Fields(after); len(more) > 0 {
		if e.offset, err = strconv.ParseInt(more[0], 10, 64); err != nil || e.offset < 0 || e.offset > 1<<53 {
			return extentLine{}, false, fmt.Errorf("an extent at the sector %.30q", more[0])
		}
	}
	if e.kind != "ZERO" && e.file == "" {
		return extentLine{}, false, fmt.Errorf("an extent without a file: %.100q", line)
	}
	return e, true, nil
}

// fileNames gives the names to try for an extent's file, in this order: as the bytes are, and as the encoding says.
func (d *descriptor) fileNames(e extentLine) []string {
	names := []string{e.file}
	switch strings.ToLower(d.encoding) {
	case "windows-1252", "iso-8859-1", "cp1252":
		if s := fromWindows1252(e.file); s != e.file {
			// The bytes may have been UTF-8 all along: VMware writes the encoding of the host, and files get moved.
			if utf8.ValidString(e.file) {
				return append(names, s)
			}
			return []string{s, e.file}
		}
	}
	return names
}

// fromWindows1252 decodes the code page; bytes that it leaves out become themselves, as in ISO-8859-1.
func fromWindows1252(s string) string {
	const high = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ" // 0x80 to 0x9f
	table := []rune(high)
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 0x80 && c < 0xa0:
			b.WriteRune(table[c-0x80])
		default:
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// title is the first line of every descriptor.
const title = "# Disk DescriptorFile"

// isText says whether a file begins as a descriptor does: with the title, or with comments and empty lines, then a version.
func isText(head []byte) bool {
	if len(head) > 16<<10 {
		head = head[:16<<10]
	}
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	if len(head) >= len(title) && strings.EqualFold(string(head[:len(title)]), title) {
		return true
	}
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\n"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, ok := bytes.Cut(line, []byte("="))
		return ok && strings.EqualFold(string(bytes.TrimSpace(key)), "version")
	}
	return false
}

// details are the lines of Info that the descriptor has.
func (d *descriptor) details() []image.Detail {
	var out []image.Detail
	add := func(name, value string) {
		if value != "" && len(value) <= 200 {
			out = append(out, image.Detail{Name: name, Value: value})
		}
	}
	add("CID", d.cid)
	add("encoding", d.encoding)
	add("adapterType", d.ddb["adaptertype"])
	add("virtualHWVersion", d.ddb["virtualhwversion"])
	add("toolsVersion", d.ddb["toolsversion"])
	if c := d.ddb["geometry.cylinders"]; c != "" {
		add("geometry", c+" x "+d.ddb["geometry.heads"]+" x "+d.ddb["geometry.sectors"])
	}
	add("longContentID", d.ddb["longcontentid"])
	add("uuid", d.ddb["uuid"])
	add("thinProvisioned", d.ddb["thinprovisioned"])
	return out
}
