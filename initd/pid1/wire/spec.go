package wire

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Limits of a spec, in bytes and entries.
const (
	MaxSpec    = 512 << 10
	maxStrings = 8192
	maxGroups  = 65536
)

// Spec says how the stub becomes a program. It travels in a sealed memfd; the
// stub reads it, init never does.
type Spec struct {
	Path string // absolute, or a name to be searched in the PATH of Env; empty means Argv[0]
	Argv []string
	Env  []string // "NAME=value"; nothing is inherited
	Dir  string   // empty means "/"

	UID, GID   uint32
	Groups     []uint32 // supplementary
	NoNewPrivs bool     // prctl PR_SET_NO_NEW_PRIVS
	Umask      uint32   // zero means 022
	OOMScore   int32    // oom_score_adj
	Nice       int32    // nice value
	Limits     []Limit
	// Files says at which descriptor numbers the files that came with the
	// Spawn go, in their order. 0, 1 and 2 are /dev/null if they are not
	// among them.
	Files []uint32
}

// Limit is one resource limit, by its number in setrlimit(2).
type Limit struct {
	Resource uint32
	Soft     uint64
	Hard     uint64
}

// ErrSpec is the error of bytes that are no spec, or one from the future that
// this side would not carry out in full.
var ErrSpec = errors.New("spawn spec cannot be read")

// specMagic is followed by fields: tag u16, length u32, value. A reader
// refuses tags that it does not know, since leaving out a limit or a lost
// right is no option; but skips those with tagOptional.
const (
	specMagic   = "spw1"
	tagOptional = 0x8000

	tagPath    = 1
	tagArg     = 2 // repeated
	tagEnv     = 3 // repeated
	tagDir     = 4
	tagUID     = 5
	tagGID     = 6
	tagGroups  = 7
	tagNoPrivs = 8
	tagUmask   = 9
	tagOOM     = 10
	tagNice    = 11
	tagLimit   = 12 // repeated
	tagFiles   = 13
)

// Encode returns the spec's bytes.
func (s *Spec) Encode() ([]byte, error) {
	b := []byte(specMagic)
	ok := true
	field := func(tag uint16, v []byte) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	str := func(tag uint16, v string) {
		ok = ok && strings.IndexByte(v, 0) < 0
		field(tag, []byte(v))
	}
	u32 := func(tag uint16, vs ...uint32) {
		var v []byte
		for _, x := range vs {
			v = binary.LittleEndian.AppendUint32(v, x)
		}
		field(tag, v)
	}
	if s.Path != "" {
		str(tagPath, s.Path)
	}
	for _, v := range s.Argv {
		str(tagArg, v)
	}
	for _, v := range s.Env {
		str(tagEnv, v)
	}
	if s.Dir != "" {
		str(tagDir, s.Dir)
	}
	u32(tagUID, s.UID)
	u32(tagGID, s.GID)
	if len(s.Groups) > 0 {
		u32(tagGroups, s.Groups...)
	}
	if s.NoNewPrivs {
		u32(tagNoPrivs, 1)
	}
	if s.Umask != 0 {
		u32(tagUmask, s.Umask)
	}
	if s.OOMScore != 0 {
		u32(tagOOM, uint32(s.OOMScore))
	}
	if s.Nice != 0 {
		u32(tagNice, uint32(s.Nice))
	}
	for _, l := range s.Limits {
		v := binary.LittleEndian.AppendUint32(nil, l.Resource)
		v = binary.LittleEndian.AppendUint64(v, l.Soft)
		field(tagLimit, binary.LittleEndian.AppendUint64(v, l.Hard))
	}
	if len(s.Files) > 0 {
		u32(tagFiles, s.Files...)
	}
	if !ok || len(b) > MaxSpec || s.check() != nil {
		return nil, ErrSpec
	}
	return b, nil
}

// DecodeSpec reads a spec. It allocates no more than a small multiple of b.
func DecodeSpec(b []byte) (*Spec, error) {
	if len(b) > MaxSpec || len(b) < len(specMagic) || string(b[:len(specMagic)]) != specMagic {
		return nil, ErrSpec
	}
	b = b[len(specMagic):]
	s := &Spec{}
	for len(b) > 0 {
		if len(b) < 6 {
			return nil, ErrSpec
		}
		tag, n := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[2:])
		b = b[6:]
		if uint64(n) > uint64(len(b)) {
			return nil, ErrSpec
		}
		if !s.field(tag, b[:n]) {
			return nil, ErrSpec
		}
		b = b[n:]
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Spec) field(tag uint16, v []byte) bool {
	str := func(p *string) bool {
		*p = string(v)
		return strings.IndexByte(*p, 0) < 0
	}
	list := func(p *[]string) bool {
		*p = append(*p, string(v))
		return strings.IndexByte(string(v), 0) < 0 && len(*p) <= maxStrings
	}
	u32 := func(p *uint32) bool {
		if len(v) != 4 {
			return false
		}
		*p = binary.LittleEndian.Uint32(v)
		return true
	}
	u32s := func(p *[]uint32) bool {
		if len(v)%4 != 0 || len(v) == 0 {
			return false
		}
		*p = nil
		for i := 0; i < len(v); i += 4 {
			*p = append(*p, binary.LittleEndian.Uint32(v[i:]))
		}
		return true
	}
	switch tag {
	case tagPath:
		return str(&s.Path)
	case tagArg:
		return list(&s.Argv)
	case tagEnv:
		return list(&s.Env)
	case tagDir:
		return str(&s.Dir)
	case tagUID:
		return u32(&s.UID)
	case tagGID:
		return u32(&s.GID)
	case tagGroups:
		return u32s(&s.Groups)
	case tagNoPrivs:
		var n uint32
		ok := u32(&n)
		s.NoNewPrivs = n != 0
		return ok
	case tagUmask:
		return u32(&s.Umask)
	case tagOOM:
		var n uint32
		ok := u32(&n)
		s.OOMScore = int32(n)
		return ok
	case tagNice:
		var n uint32
		ok := u32(&n)
		s.Nice = int32(n)
		return ok
	case tagLimit:
		if len(v) != 20 {
			return false
		}
		s.Limits = append(s.Limits, Limit{
			binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint64(v[4:]), binary.LittleEndian.Uint64(v[12:])})
		return true
	case tagFiles:
		return u32s(&s.Files)
	}
	return tag&tagOptional != 0
}

// check bounds what the stub will do.
func (s *Spec) check() error {
	path := s.Path
	if path == "" && len(s.Argv) > 0 {
		path = s.Argv[0]
	}
	if len(s.Argv) == 0 || len(path) == 0 || path[0] != '/' && strings.Contains(path, "/") || s.Dir != "" && s.Dir[0] != '/' ||
		len(s.Argv) > maxStrings || len(s.Env) > maxStrings || len(s.Groups) > maxGroups || len(s.Limits) > 64 ||
		len(s.Files) > MaxFiles || s.Umask > 0o777 {
		return ErrSpec
	}
	seen := map[uint32]bool{}
	for _, n := range s.Files {
		if n >= maxTarget || seen[n] {
			return ErrSpec
		}
		seen[n] = true
	}
	return nil
}

// maxTarget bounds descriptor numbers: the stub parks its own above.
const maxTarget = 256
