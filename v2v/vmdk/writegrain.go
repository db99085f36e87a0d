package vmdk

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zlib"

	"initd/v2v/image"
)

// What is written, always: 64 KiB grains, 512 to a table.
const (
	writeGrain = 128 // sectors
	writeUnit  = writeGrain * sector
	writeGTEs  = 512
	coverage   = writeUnit * writeGTEs
)

// deflater makes compressed grains. Safe for several goroutines.
type deflater struct {
	level int
	pool  sync.Pool // *deflateState
}

type deflateState struct {
	z   *zlib.Writer
	out appender
	pad []byte
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// grain appends a whole stored grain: its LBA, its size, its data, and zeros up to a sector. A disk's last grain is filled up
// with zeros first: VirtualBox refuses a short one.
func (d *deflater) grain(dst []byte, offset int64, data []byte) ([]byte, error) {
	s, _ := d.pool.Get().(*deflateState)
	if s == nil {
		s = &deflateState{}
		z, err := zlib.NewWriterLevel(&s.out, d.level)
		if err != nil {
			return nil, fmt.Errorf("vmdk: compress at level %d: %w", d.level, err)
		}
		s.z = z
	}
	defer d.pool.Put(s)
	if len(data) < writeUnit {
		if s.pad == nil {
			s.pad = make([]byte, writeUnit)
		}
		clear(s.pad[copy(s.pad, data):])
		data = s.pad
	}
	begin := len(dst)
	s.out.b = append(dst, make([]byte, grainHead)...)
	s.z.Reset(&s.out)
	if _, err := s.z.Write(data); err != nil {
		return nil, fmt.Errorf("vmdk: compress the grain at %d: %w", offset, err)
	}
	if err := s.z.Close(); err != nil {
		return nil, fmt.Errorf("vmdk: compress the grain at %d: %w", offset, err)
	}
	dst, s.out.b = s.out.b, nil
	binary.LittleEndian.PutUint64(dst[begin:], uint64(offset/sector))
	binary.LittleEndian.PutUint32(dst[begin+8:], uint32(len(dst)-begin-grainHead))
	if over := (len(dst) - begin) % sector; over > 0 {
		dst = append(dst, make([]byte, sector-over)...)
	}
	return dst, nil
}

// encode is image.Writer.Encode for compressed disks.
func (d *deflater) encode(dst []byte, offset int64, data []byte) (image.Encoded, error) {
	b, err := d.grain(dst, offset, data)
	return image.Encoded{Offset: offset, Length: int64(len(data)), Bytes: b}, err
}

// fileFull says that an extent file has come to the end of what its tables can address.
func fileFull(name, subformat string) error {
	return &image.Error{Fault: image.TooLarge, Code: "vmdk-file-size", Image: name, Format: "vmdk",
		What: fmt.Sprintf("the data of %s do not fit one file: its tables address 2 TiB", subformat), Do: "say -o subformat=" + splitSparse + " or " + monolithicFlat}
}
