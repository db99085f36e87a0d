package image

import (
	"errors"
	"iter"
	"strings"
	"testing"
)

// mapOf is a reader that has nothing but a map.
type mapOf struct {
	Reader
	extents []Extent
	err     error
}

func (m mapOf) Extents(int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for _, e := range m.extents {
			if !yield(e, nil) {
				return
			}
		}
		if m.err != nil {
			yield(Extent{}, m.err)
		}
	}
}

// The kernel calls room that was allotted in advance data once it was read: the same image has another map then.
func TestAMapIsTheSameHoweverItsDataAreSplit(t *testing.T) {
	whole := []Extent{{Length: 4096, Kind: Hole, Place: -1}, {Offset: 4096, Length: 12288, Kind: Data, Place: 65536}, {Offset: 16384, Length: 4096, Kind: Data, Place: 8192}}
	split := []Extent{whole[0], {Offset: 4096, Length: 4096, Kind: Data, Place: 65536}, {Offset: 8192, Length: 8192, Kind: Data, Place: 69632, Unwritten: true}, whole[2]}
	var a, b strings.Builder
	stored, err1 := WriteMap(&a, mapOf{extents: whole})
	less, err2 := WriteMap(&b, mapOf{extents: split})
	if err := errors.Join(err1, err2); err != nil || a.String() != b.String() || strings.Count(a.String(), "\n") != 3 {
		t.Errorf("%v\n%s\n%s", err, a.String(), b.String())
	}
	if stored != 16384 || less != 8192 {
		t.Errorf("%d and %d bytes are stored", stored, less)
	}
	for name, other := range map[string][]Extent{
		"another place":   {whole[0], {Offset: 4096, Length: 12288, Kind: Data, Place: 65537}, whole[2]},
		"another file":    {whole[0], {Offset: 4096, Length: 12288, Kind: Data, Place: 65536, File: 1}, whole[2]},
		"a zero between":  {whole[0], {Offset: 4096, Length: 12288, Kind: Zero, Place: -1}, whole[2]},
		"compressed data": {whole[0], {Offset: 4096, Length: 12288, Kind: Data, Compressed: true, Place: -1}, whole[2]},
		"an extent less":  whole[:2],
	} {
		var c strings.Builder
		if _, err := WriteMap(&c, mapOf{extents: other}); err != nil || c.String() == a.String() {
			t.Errorf("%s: %v, and the same map", name, err)
		}
	}
	damaged := errors.New("damaged")
	if _, err := WriteMap(&a, mapOf{extents: whole, err: damaged}); !errors.Is(err, damaged) {
		t.Errorf("got %v", err)
	}
}
