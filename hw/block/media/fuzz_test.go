package media

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// patch is a medium of zeros with some bytes on it.
type patch struct {
	at   int64
	data []byte
	size int64
}

func (p patch) ReadAt(b []byte, offset int64) (int, error) {
	if offset+int64(len(b)) > p.size {
		return 0, io.EOF
	}
	clear(b)
	for i := range b {
		if j := offset + int64(i) - p.at; j >= 0 && j < int64(len(p.data)) {
			b[i] = p.data[j]
		}
	}
	return len(b), nil
}

func (p patch) medium() Medium { return Medium{ReaderAt: p, Size: p.size, SectorSize: 512} }

// captures are headers that the real tools wrote; the name says where on the medium they lay: ext4-at-1024.
func captures(f testing.TB, add func(name string, at int64, data []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/captures/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no captures: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		name, offset, ok := strings.Cut(filepath.Base(file), "-at-")
		at, err := strconv.ParseInt(offset, 10, 64)
		if !ok || err != nil {
			f.Fatalf("%s does not say where it lay", file)
		}
		add(name, at, data)
	}
}

const fuzzSize = 40 << 20

// fuzz seeds a target with the captures whose names start with a prefix, and holds what one format makes of any bytes to what every
// consumer relies on.
func fuzz(f *testing.F, prefix string, repair func([]byte), probe func(*reader) *Signature) {
	seeds := 0
	captures(f, func(name string, at int64, data []byte) {
		if strings.HasPrefix(name, prefix) {
			f.Add(at, data)
			seeds++
		}
	})
	if seeds == 0 {
		f.Fatalf("no capture of %s", prefix)
	}
	f.Fuzz(func(t *testing.T, at int64, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		if repair != nil {
			repair(data)
		}
		r := &reader{medium: patch{at, data, fuzzSize}.medium()}
		signature := probe(r)
		if r.err != nil {
			t.Fatalf("a read beyond the medium: %v", r.err)
		}
		if signature != nil {
			checkSignature(t, *signature)
		}
	})
}

func checkSignature(t *testing.T, s Signature) {
	t.Helper()
	if s.Type == "" || s.Usage == "" {
		t.Errorf("a signature without a type: %+v", s)
	}
	if len(s.Label) > 1024 || len(s.UUID) > 64 || strings.ContainsRune(s.Label, 0) || strings.ContainsRune(s.UUID, 0) {
		t.Errorf("a label or UUID out of bounds: %+v", s)
	}
}

func checkTable(t *testing.T, table *Table, size uint64) {
	t.Helper()
	numbers := map[int]bool{}
	for _, p := range table.Partitions {
		if p.Number <= 0 || numbers[p.Number] || !utf8.ValidString(p.Label) {
			t.Errorf("partition %+v", p)
		}
		numbers[p.Number] = true
		if table.Type == "gpt" && (p.Size == 0 || p.Start+p.Size > size) {
			t.Errorf("partition %+v lies outside of %d bytes", p, size)
		}
	}
	if len(table.Partitions) > gptMaxEntries/gptEntryMin {
		t.Errorf("%d partitions", len(table.Partitions))
	}
}

func FuzzLUKS(f *testing.F)    { fuzz(f, "luks", nil, probeLUKS) }
func FuzzExt(f *testing.F)     { fuzz(f, "ext", nil, probeExt) }
func FuzzXFS(f *testing.F)     { fuzz(f, "xfs", nil, probeXFS) }
func FuzzBtrfs(f *testing.F)   { fuzz(f, "btrfs", nil, probeBtrfs) }
func FuzzVFAT(f *testing.F)    { fuzz(f, "fat", nil, probeVFAT) }
func FuzzExFAT(f *testing.F)   { fuzz(f, "exfat", nil, probeExFAT) }
func FuzzNTFS(f *testing.F)    { fuzz(f, "exfat", nil, probeNTFS) }
func FuzzSwap(f *testing.F)    { fuzz(f, "swap", nil, probeSwap) }
func FuzzISO9660(f *testing.F) { fuzz(f, "iso9660", nil, probeISO9660) }
func FuzzMDRaid(f *testing.F)  { fuzz(f, "md", nil, probeMDRaid) }
func FuzzLVM2(f *testing.F) {
	fuzz(f, "lvm2", func(label []byte) {
		if len(label) >= lvmLabelSize {
			sum := ^crc32.Update(^uint32(lvmInitialCRC), crc32.IEEETable, label[lvmOffsetAt:lvmLabelSize])
			binary.LittleEndian.PutUint32(label[lvmChecksumAt:], sum)
		}
	}, probeLVM2)
}

// FuzzGPT repairs the checksums, or it would never come past them.
func FuzzGPT(f *testing.F) {
	captures(f, func(name string, _ int64, data []byte) {
		if name == "gpt" {
			f.Add(data)
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 1024 && len(data) <= 1<<16 {
			header := data[512:1024]
			whole := &reader{medium: patch{0, data, fuzzSize}.medium()}
			count, size := binary.LittleEndian.Uint32(header[gptEntryCountAt:]), binary.LittleEndian.Uint32(header[gptEntrySizeAt:])
			if length := uint64(count) * uint64(size); length <= gptMaxEntries {
				entries := whole.at(int64(binary.LittleEndian.Uint64(header[gptEntriesLBAAt:])%fuzzSize)*512, int(length))
				binary.LittleEndian.PutUint32(header[gptEntriesSumAt:], crc32.ChecksumIEEE(entries))
			}
			if size := binary.LittleEndian.Uint32(header[gptHeaderSizeAt:]); size >= gptHeaderMin && size <= 512 {
				clear(header[gptChecksumAt:][:4])
				binary.LittleEndian.PutUint32(header[gptChecksumAt:], crc32.ChecksumIEEE(header[:size]))
			}
		}
		probeFuzzedTable(t, data)
	})
}

func FuzzDOS(f *testing.F) {
	captures(f, func(name string, _ int64, data []byte) {
		if name == "dos" {
			f.Add(data)
		}
	})
	f.Fuzz(probeFuzzedTable)
}

func probeFuzzedTable(t *testing.T, data []byte) {
	r := &reader{medium: patch{0, data, fuzzSize}.medium()}
	table := probeTable(r)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if table != nil {
		checkTable(t, table, fuzzSize)
	}
}

// FuzzProbe is the whole: any bytes anywhere on a medium of any size.
func FuzzProbe(f *testing.F) {
	captures(f, func(_ string, at int64, data []byte) { f.Add(at, data, int64(fuzzSize)) })
	f.Fuzz(func(t *testing.T, at int64, data []byte, size int64) {
		content, err := Probe(patch{at, data, size}.medium())
		if err != nil {
			t.Fatal(err)
		}
		if content.Signature != nil {
			checkSignature(t, *content.Signature)
		}
		if content.Table != nil {
			checkTable(t, content.Table, uint64(size))
		}
	})
}

func TestEachCaptureIsRecognised(t *testing.T) {
	captures(t, func(name string, at int64, data []byte) {
		content, err := Probe(patch{at, data, fuzzSize}.medium())
		if err != nil || content.Signature == nil && content.Table == nil {
			t.Errorf("%s: %+v, %v", name, content, err)
		}
	})
}

type broken struct{ from int64 }

func (b broken) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > b.from {
		return 0, errors.New("input/output error")
	}
	return len(p), nil
}

func TestAMediumThatCannotBeReadIsNotAnEmptyOne(t *testing.T) {
	for _, from := range []int64{0, 4096, 40000, 65600} {
		if content, err := Probe(Medium{ReaderAt: broken{from}, Size: fuzzSize}); err == nil {
			t.Errorf("broken from %d: %+v", from, content)
		}
	}
}

// A loop in the chain of extended partitions ends.
func TestALoopOfExtendedPartitionsEnds(t *testing.T) {
	mbr := make([]byte, 1024)
	for _, at := range []int{0, 512} {
		mbr[at+510], mbr[at+511] = 0x55, 0xaa
		entry := mbr[at+446:]
		entry[4], entry[8], entry[12] = 5, byte(1-at/512), 10
		mbr[at+462+4], mbr[at+462+8], mbr[at+462+12] = 0x83, 1, 1
	}
	content, err := Probe(patch{0, mbr, 1 << 20}.medium())
	if err != nil || content.Table == nil || len(content.Table.Partitions) > dosMaxLogical+4 {
		t.Errorf("%+v, %v", content.Table, err)
	}
}
