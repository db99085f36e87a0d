package media

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func uberblocks(n int, magic string) string {
	return strings.Repeat(magic+strings.Repeat("\x00", 1024-len(magic)), n)
}

func TestWhatProbeDoesNotKnowIsFoundByItsTrace(t *testing.T) {
	medium := func(at int64, text string) Medium {
		content := make([]byte, 2<<20)
		copy(content[at:], text)
		return Medium{ReaderAt: bytes.NewReader(content), Size: int64(len(content))}
	}
	all := append(traces(),
		trace{"a disk of a ZFS pool", 128<<10 + 7*1024, uberblocks(4, "\x0c\xb1\xba\x00\x00\x00\x00\x00")},
		trace{"a disk of a ZFS pool", 384 << 10, uberblocks(4, "\x00\x00\x00\x00\x00\xba\xb1\x0c")},
		trace{"", 128 << 10, uberblocks(3, "\x0c\xb1\xba\x00\x00\x00\x00\x00")}, // what wipefs -a leaves
		trace{"", 0, ""},
		trace{"", 500, "LUKS\xde\xad"})
	for _, want := range all {
		t.Run(fmt.Sprintf("%s at %d", want.name, want.at), func(t *testing.T) {
			got, err := Trace(medium(want.at, want.magic))
			if err != nil || got != want.name {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := Trace(Medium{ReaderAt: bytes.NewReader(nil)}); err != nil || got != "" {
		t.Errorf("a medium of no size: got %q, %v", got, err)
	}
}
