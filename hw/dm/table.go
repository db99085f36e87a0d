package dm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Redacted stands in a table where the kernel shows a key.
const Redacted = "REDACTED"

// Target is one line of a table: a stretch of the device, in sectors, and what answers for it. Params is the target's
// own text with keys redacted; for Status it is the target's state.
type Target struct {
	Start, Length uint64
	Type, Params  string
}

// String is the line that dmsetup prints and takes.
func (t Target) String() string {
	return strings.TrimRight(fmt.Sprintf("%d %d %s %s", t.Start, t.Length, t.Type, t.Params), " ")
}

// Table returns the active table of a device; none if it was never resumed.
func Table(name string) ([]Target, error) {
	return targets("read the table of", name, unix.DM_STATUS_TABLE_FLAG)
}

// InactiveTable returns the table that was loaded and not resumed yet.
func InactiveTable(name string) ([]Target, error) {
	return targets("read the inactive table of", name, unix.DM_STATUS_TABLE_FLAG|unix.DM_QUERY_INACTIVE_TABLE_FLAG)
}

// Status returns the state of each target of a device. It waits for no I/O.
func Status(name string) ([]Target, error) {
	return targets("read the status of", name, unix.DM_NOFLUSH_FLAG)
}

func targets(op, name string, flags uint32) ([]Target, error) {
	// DM_SECURE_DATA_FLAG makes the kernel wipe its own copy of the answer.
	got, err := control(unix.DM_TABLE_STATUS, request{name: name, flags: flags | unix.DM_SECURE_DATA_FLAG, room: 4096})
	if err != nil {
		return nil, failed(op, name, err)
	}
	defer clear(got.data)
	parsed, err := parseTargets(got.data, got.targets)
	return parsed, failed(op, name, err)
}

// sizeofSpec is struct dm_target_spec: start and length (8 bytes each), status and next (4 each), type (16).
const sizeofSpec = 40

// parseTargets reads count structs dm_target_spec, each followed by its text; next is the offset of the following one
// from the start of data. It redacts in place, before any text becomes a string.
func parseTargets(data []byte, count int) ([]Target, error) {
	parsed := make([]Target, 0, min(max(count, 0), len(data)/sizeofSpec))
	for at := 0; len(parsed) < count; {
		if at < 0 || len(data)-at < sizeofSpec {
			return nil, fmt.Errorf("target %d of %d lies outside the kernel's answer", len(parsed), count)
		}
		spec := data[at : at+sizeofSpec]
		text, _, ended := bytes.Cut(data[at+sizeofSpec:], []byte{0})
		if !ended {
			return nil, fmt.Errorf("the text of target %d of %d does not end", len(parsed), count)
		}
		kind, _, _ := bytes.Cut(spec[24:], []byte{0})
		parsed = append(parsed, Target{
			Start:  binary.NativeEndian.Uint64(spec[0:]),
			Length: binary.NativeEndian.Uint64(spec[8:]),
			Type:   string(kind),
			Params: redact(string(kind), text),
		})
		next := int(binary.NativeEndian.Uint32(spec[20:]))
		if len(parsed) < count && next <= at {
			return nil, fmt.Errorf("target %d of %d points back", len(parsed), count)
		}
		at = next
	}
	return parsed, nil
}

// redact takes keys out of a target's text, whoever loaded it.
func redact(kind string, text []byte) string {
	words := bytes.Split(text, []byte{' '})
	switch kind {
	case "crypt": // Documentation/admin-guide/device-mapper/dm-crypt.rst: the second word, unless it names a key in a keyring
		if len(words) > 1 && !bytes.HasPrefix(words[1], []byte{':'}) && !bytes.Equal(words[1], []byte{'-'}) {
			words[1] = []byte(Redacted)
		}
	case "integrity": // dm-integrity.rst: internal_hash:algorithm:key and two more of its form
		for i, word := range words {
			option, rest, _ := bytes.Cut(word, []byte{':'})
			algorithm, _, hasKey := bytes.Cut(rest, []byte{':'})
			if hasKey && slices.Contains([]string{"internal_hash", "journal_crypt", "journal_mac"}, string(option)) {
				words[i] = fmt.Appendf(nil, "%s:%s:%s", option, algorithm, Redacted)
			}
		}
	}
	return string(bytes.Join(words, []byte{' '}))
}

// Crypt is the text of a crypt target.
type Crypt struct {
	Cipher   string
	Key      string // Redacted, "-" for none, or :SIZE:TYPE:DESCRIPTION of a key in a keyring
	IVOffset uint64 // added to the sector number, in sectors
	Device   string // MAJOR:MINOR as the kernel shows it, a path in a table to be loaded
	Offset   uint64 // of the data on Device, in sectors
	// SectorSize is the unit of encryption in bytes.
	SectorSize uint64
	Flags      []string // the other optional words, as they are: allow_discards, integrity:28:aead, ...
}

// ParseCrypt reads the text of a crypt target.
func ParseCrypt(params string) (Crypt, error) {
	words := strings.Fields(params)
	if len(words) < 5 {
		return Crypt{}, fmt.Errorf("dm: crypt table: %d words, want 5 or more", len(words))
	}
	c := Crypt{Cipher: words[0], Key: words[1], Device: words[3], SectorSize: SectorSize}
	if c.Key != "-" && !strings.HasPrefix(c.Key, ":") {
		c.Key = Redacted
	}
	var err error
	if c.IVOffset, err = strconv.ParseUint(words[2], 10, 64); err != nil {
		return Crypt{}, fmt.Errorf("dm: crypt table: IV offset %q is not a number", words[2])
	}
	if c.Offset, err = strconv.ParseUint(words[4], 10, 64); err != nil {
		return Crypt{}, fmt.Errorf("dm: crypt table: offset %q is not a number", words[4])
	}
	options := words[5:]
	if len(options) == 0 {
		return c, nil
	}
	if n, err := strconv.Atoi(options[0]); err != nil || n != len(options)-1 {
		return Crypt{}, fmt.Errorf("dm: crypt table: %q options are announced, %d are there", options[0], len(options)-1)
	}
	for _, option := range options[1:] {
		size, ok := strings.CutPrefix(option, "sector_size:")
		if !ok {
			c.Flags = append(c.Flags, option)
		} else if c.SectorSize, err = strconv.ParseUint(size, 10, 64); err != nil {
			return Crypt{}, fmt.Errorf("dm: crypt table: sector size %q is not a number", size)
		}
	}
	return c, nil
}

// Linear is the text of a linear target.
type Linear struct {
	Device string
	Offset uint64 // in sectors
}

// ParseLinear reads the text of a linear target.
func ParseLinear(params string) (Linear, error) {
	words := strings.Fields(params)
	if len(words) != 2 {
		return Linear{}, fmt.Errorf("dm: linear table: %d words, want 2", len(words))
	}
	offset, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		return Linear{}, fmt.Errorf("dm: linear table: offset %q is not a number", words[1])
	}
	return Linear{Device: words[0], Offset: offset}, nil
}

// LoadTargets gives a device a table that is written as text, for targets of which devmapper.go has no type, or a wrong one
// (multipath). The next Resume puts it to use. It is for tables without keys.
func LoadTargets(name string, table ...Target) error {
	var data []byte
	for _, t := range table {
		if len(t.Type) >= 16 || strings.IndexByte(t.Type+t.Params, 0) >= 0 {
			return &Error{"load the table of", name, fmt.Errorf("a target of type %q", t.Type)}
		}
		const head = 40 // struct dm_target_spec (include/uapi/linux/dm-ioctl.h)
		size := (head + len(t.Params) + 1 + 7) &^ 7
		b := make([]byte, size)
		binary.NativeEndian.PutUint64(b[0:], t.Start)
		binary.NativeEndian.PutUint64(b[8:], t.Length)
		binary.NativeEndian.PutUint32(b[20:], uint32(size))
		copy(b[24:40], t.Type)
		copy(b[head:], t.Params)
		data = append(data, b...)
	}
	_, err := control(unix.DM_TABLE_LOAD, request{name: name, data: data, count: len(table)})
	return failed("load the table of", name, err)
}
