package luks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LUKS2 On-Disk Format 1.1.3, section 3. Only what is needed to open a volume is read.
type metadata struct {
	Keyslots objects[keyslot] `json:"keyslots"`
	Segments objects[segment] `json:"segments"`
	Digests  objects[digest2] `json:"digests"`
	Config   *config          `json:"config"`
}

type keyslot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	AF      struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string  `json:"type"`
		Offset     decimal `json:"offset"`
		Size       decimal `json:"size"`
		Encryption string  `json:"encryption"`
		KeySize    int     `json:"key_size"`
	} `json:"area"`
	KDF struct {
		Type       string `json:"type"`
		Salt       []byte `json:"salt"`
		Hash       string `json:"hash"`
		Iterations int64  `json:"iterations"`
		Time       int64  `json:"time"`
		Memory     int64  `json:"memory"`
		CPUs       int64  `json:"cpus"`
	} `json:"kdf"`
	Priority *int `json:"priority"` // 0 never, 1 normal (as without it), 2 first
}

type segment struct {
	Type       string          `json:"type"`
	Offset     decimal         `json:"offset"`
	Size       string          `json:"size"` // "dynamic" or a number
	IVTweak    decimal         `json:"iv_tweak"`
	Encryption string          `json:"encryption"`
	SectorSize uint64          `json:"sector_size"`
	Integrity  json.RawMessage `json:"integrity"`
	Flags      []string        `json:"flags"`
}

type digest2 struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int64    `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

type config struct {
	JSONSize     decimal      `json:"json_size"`
	KeyslotsSize decimal      `json:"keyslots_size"`
	Flags        []string     `json:"flags"`
	Requirements requirements `json:"requirements"`
}

// decimal is a 64-bit number written as a string, as the format wants it.
type decimal uint64

func (d *decimal) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q is no number", s)
	}
	*d = decimal(n)
	return nil
}

// requirements is a list by the format's text, an object with the list "mandatory" as cryptsetup writes it.
type requirements []string

func (r *requirements) UnmarshalJSON(data []byte) error {
	var object struct {
		Mandatory []string `json:"mandatory"`
	}
	if bytes.HasPrefix(data, []byte("[")) {
		return json.Unmarshal(data, (*[]string)(r))
	}
	err := json.Unmarshal(data, &object)
	*r = object.Mandatory
	return err
}

// maxObjects is how many key slots, segments or digests there may be (LUKS2_KEYSLOTS_MAX of cryptsetup).
const maxObjects = 32

// objects is a JSON object whose names are numbers. It is decoded entry by entry, so that millions of them in a crafted
// header cost nothing.
type objects[T any] map[int]T

func (o *objects[T]) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return fmt.Errorf("%.20q is no object", data)
	}
	*o = objects[T]{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		id, err := strconv.ParseUint(name.(string), 10, 16)
		if err != nil || name != strconv.FormatUint(id, 10) {
			return fmt.Errorf("%.20q is no number of an object", name)
		}
		if _, twice := (*o)[int(id)]; twice || len(*o) == maxObjects {
			return fmt.Errorf("object %d is there twice, or is one of more than %d", id, maxObjects)
		}
		var value T
		if err := dec.Decode(&value); err != nil {
			return err
		}
		(*o)[int(id)] = value
	}
	return nil
}

// ids are the numbers of the objects, in order.
func (o objects[T]) ids() []int {
	ids := make([]int, 0, len(o))
	for id := range o {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// parseJSON reads the JSON of a header: text from the first byte to a NUL within the area.
func parseJSON(area []byte) (*metadata, error) {
	end := bytes.IndexByte(area, 0)
	if end < 0 {
		return nil, damaged("its JSON does not end within its area of %d bytes", len(area))
	}
	if tooDeep(area[:end]) {
		return nil, damaged("its JSON is nested more than %d deep", maxDepth)
	}
	var m metadata
	if err := json.Unmarshal(area[:end], &m); err != nil {
		return nil, damaged("its JSON is not valid: %.200v", err)
	}
	if m.Config == nil {
		return nil, damaged("its JSON has no config")
	}
	if uint64(m.Config.JSONSize) != uint64(len(area)) {
		return nil, damaged("its JSON area has %d bytes, %d by its config", len(area), m.Config.JSONSize)
	}
	if len(m.Config.Requirements) > 0 {
		if slices.ContainsFunc(m.Config.Requirements, func(r string) bool { return strings.Contains(r, "reencrypt") }) {
			return nil, unsupported("a volume that is being encrypted anew (it requires %.60q)", m.Config.Requirements)
		}
		return nil, unsupported("the requirement %.60q", m.Config.Requirements)
	}
	return &m, nil
}

// maxDepth is how deep a header may be nested (JSON_TOKENER_DEFAULT_DEPTH of json-c, by which cryptsetup reads it).
const maxDepth = 32

// tooDeep counts brackets outside strings; whether they match is the decoder's business.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
