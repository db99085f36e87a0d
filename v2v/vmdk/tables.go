package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"

	"initd/v2v/image"
	"initd/v2v/span"
)

// cachedTables is how many grain tables a disk keeps: 4 MiB, 64 GiB of disk.
const cachedTables = 2048

// tables are the grain directory and the grain tables of one extent file.
type tables struct {
	src image.Source
	h   header
	// gd has the sector of each grain table; 0 where nothing in it is allocated.
	gd []uint32

	mu    sync.Mutex
	cache map[int][]uint32
	keep  int // how many of them
}

// openTables reads the directory and looks at every table once: it refuses what lies outside the file or over something else, and
// says whether the redundant tables agree.
func openTables(ctx context.Context, src image.Source, h header, footer bool) (*tables, []string, error) {
	t := &tables{src: src, h: h, cache: map[int][]uint32{}, keep: cachedTables}
	gd, err := readDirectory(src, h, h.gd, "grain directory")
	if err != nil {
		return nil, nil, err
	}
	t.gd = gd

	claims := &span.Set{}
	claims.Add(0, 1)
	if h.descSize > 0 {
		claims.Add(uint32(h.descOffset), uint32(h.descSize))
	}
	if footer {
		claims.Add(uint32(src.Size()/sector-3), 3)
	}
	claims.Add(uint32(h.gd), uint32(sectorsOf(int64(len(gd))*4)))
	for _, at := range gd {
		if at != 0 && !claims.Add(at, h.gtSectors()) {
			return nil, nil, tooLarge(src.Name(), "vmdk-tables", "the grain tables lie in more than %d pieces", span.Max)
		}
	}
	if at, found := claims.Overlap(); found {
		return nil, nil, corrupt(src.Name(), "vmdk-overlap", "two tables, or a table and the descriptor, lie over each other at sector %d", at)
	}
	check := grainCheck{t: t, tables: claims, hashes: make([]uint64, len(gd)), seed: maphash.MakeSeed()}
	if err := t.scan(ctx, gd, check.table); err != nil {
		return nil, nil, err
	}
	if err := check.finish(ctx); err != nil {
		return nil, nil, err
	}
	if h.compressed() && !footer && check.last > 0 && h.gd < uint64(check.last) {
		if err := noMore(src, h, check.last); err != nil {
			return nil, nil, err
		}
	}
	var warnings []string
	if h.has(flagRGD) {
		if w := check.redundant(ctx); w != "" {
			warnings = append(warnings, w)
		}
	}
	for i, hash := range check.hashes {
		if hash == 0 { // an empty table need not be read again
			t.gd[i] = 0
		}
	}
	return t, warnings, ctx.Err()
}

// readDirectory reads the entries of a grain directory, and checks that it and its tables lie inside the file.
func readDirectory(src image.Source, h header, at uint64, what string) ([]uint32, error) {
	size := int64(h.tables()) * 4
	if at == 0 && size > 0 || at >= maxFile || int64(at)*sector+size > src.Size() {
		return nil, corrupt(src.Name(), "vmdk-gd", "the %s at sector %d has %d bytes, and does not fit the file of %d", what, at, size, src.Size())
	}
	b := make([]byte, size)
	if err := image.ReadFull(src, b, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read the %s: %w", src.Name(), what, err)
	}
	gd := make([]uint32, h.tables())
	for i := range gd {
		gd[i] = binary.LittleEndian.Uint32(b[4*i:])
		if gd[i] != 0 && int64(gd[i])*sector+int64(h.gtes)*4 > src.Size() {
			return nil, corrupt(src.Name(), "vmdk-gt", "grain table %d of the %s is at sector %d, past the end of the file (%d bytes)", i, what, gd[i], src.Size())
		}
	}
	return gd, nil
}

// scan calls f with each grain table that is not empty, in the order of the disk. It reads tables that lie together at once, and passes over
// those that lie in holes of the file.
func (t *tables) scan(ctx context.Context, gd []uint32, f func(i int, table []byte) error) error {
	const together = 256
	room := int64(t.h.gtSectors()) * sector
	buf := make([]byte, together*room)
	zeros := make([]byte, t.h.gtes*4)
	holes, _ := t.src.(image.Mapper)
	for i := 0; i < len(gd); {
		if gd[i] == 0 {
			i++
			continue
		}
		n := 1
		for i+n < len(gd) && n < together && uint64(gd[i+n]) == uint64(gd[i])+uint64(n)*uint64(t.h.gtSectors()) {
			n++
		}
		at, size := int64(gd[i])*sector, int64(n-1)*room+int64(len(zeros))
		if err := ctx.Err(); err != nil {
			return err
		}
		if holes != nil {
			if data, _, err := holes.NextData(at); errors.Is(err, io.EOF) || err == nil && data >= at+size {
				i += n
				continue
			}
		}
		if err := image.ReadFull(t.src, buf[:size], at); err != nil {
			return fmt.Errorf("%s: vmdk: read grain tables: %w", t.src.Name(), err)
		}
		for j := range n {
			table := buf[int64(j)*room:][:len(zeros)]
			if string(table) == string(zeros) {
				continue
			}
			if err := f(i+j, table); err != nil {
				return err
			}
		}
		i += n
	}
	return nil
}

// grainCheck looks at every grain's place.
type grainCheck struct {
	t      *tables
	tables *span.Set
	grains span.Set
	hashes []uint64 // of each table; 0 for an empty one
	seed   maphash.Seed
	// last is the highest sector of a compressed grain so far. Their lengths are in the data, so only their beginnings can be compared;
	// as long as they ascend, no two are equal. unordered says that they did not.
	last      uint32
	unordered bool
}

func (c *grainCheck) table(i int, table []byte) error {
	h, src := c.t.h, c.t.src
	c.hashes[i] = max(maphash.Bytes(c.seed, table), 1)
	lba := uint64(i) * uint64(h.gtes) * h.grain
	for j := 0; j < len(table); j, lba = j+4, lba+h.grain {
		at := binary.LittleEndian.Uint32(table[j:])
		if at == 0 || at == 1 && h.has(flagZeroGrain) {
			continue
		}
		if lba >= h.capacity {
			return corrupt(src.Name(), "vmdk-grain-place", "a grain is allocated at sector %d, past the end of the disk", lba)
		}
		n := min(h.grain, h.capacity-lba)
		bytes := int64(n) * sector
		if h.compressed() {
			n, bytes = 1, grainHead+1
		}
		if int64(at)*sector+bytes > src.Size() {
			return corrupt(src.Name(), "vmdk-grain-place", "the grain of sector %d is at sector %d of the file, past its end (%d bytes)", lba, at, src.Size())
		}
		if c.tables.Meets(uint64(at), n) {
			return corrupt(src.Name(), "vmdk-overlap", "the grain of sector %d is at sector %d of the file, where the tables are", lba, at)
		}
		if h.compressed() {
			c.unordered = c.unordered || at <= c.last
			c.last = max(c.last, at)
			continue
		}
		if !c.grains.Add(at, uint32(n)) {
			return tooLarge(src.Name(), "vmdk-fragmented", "the grains lie in more than %d pieces", span.Max)
		}
	}
	return nil
}

// finish compares the grains with each other.
func (c *grainCheck) finish(ctx context.Context) error {
	if c.unordered {
		err := c.t.scan(ctx, c.t.gd, func(_ int, table []byte) error {
			for j := 0; j < len(table); j += 4 {
				at := binary.LittleEndian.Uint32(table[j:])
				if at > 1 && !c.grains.Add(at, 1) {
					return tooLarge(c.t.src.Name(), "vmdk-fragmented", "the grains lie in more than %d pieces", span.Max)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if at, found := c.grains.Overlap(); found {
		return corrupt(c.t.src.Name(), "vmdk-overlap", "two grains claim sector %d of the file", at)
	}
	return nil
}

// noMore checks that nothing but zeros follows the last grain of a stream with its tables in front: the end-of-stream marker, and what fills up a grain. A
// progress marker may come before.
func noMore(src image.Source, h header, last uint32) error {
	at := int64(last) * sector
	head := make([]byte, grainHead)
	if err := image.ReadFull(src, head, at); err != nil {
		return fmt.Errorf("%s: vmdk: read the last grain: %w", src.Name(), err)
	}
	at += image.RoundUp(grainHead+int64(binary.LittleEndian.Uint32(head[8:])), sector)
	marker := make([]byte, sector)
	for src.Size()-at >= sector {
		if err := image.ReadFull(src, marker, at); err != nil {
			return fmt.Errorf("%s: vmdk: read the end: %w", src.Name(), err)
		}
		if m := decodeMarker(marker); m.grain() || m.kind != markerProgress {
			break
		}
		at += sector
	}
	rest := src.Size() - at
	if rest <= 0 { // a grain that passes the end is found when it is read
		return nil
	}
	if rest <= sector+h.grainBytes {
		b := make([]byte, rest)
		if err := image.ReadFull(src, b, at); err != nil {
			return fmt.Errorf("%s: vmdk: read the end: %w", src.Name(), err)
		}
		if image.IsZero(b) {
			return nil
		}
	}
	return corrupt(src.Name(), "vmdk-after-end", "%d bytes follow the last grain", rest)
}

// redundant compares the second set of tables with the first, which is the one that is read. VirtualBox does not open a disk where they differ; a
// crash of the program that wrote it is enough for that, so it is a warning.
func (c *grainCheck) redundant(ctx context.Context) string {
	const advice = "; the primary ones are read"
	gd, err := readDirectory(c.t.src, c.t.h, c.t.h.rgd, "redundant grain directory")
	if err != nil {
		return err.Error() + advice
	}
	differ := 0
	same := make([]bool, len(gd))
	err = c.t.scan(ctx, gd, func(i int, table []byte) error {
		same[i] = c.hashes[i] == max(maphash.Bytes(c.seed, table), 1)
		return nil
	})
	if err != nil {
		return err.Error() + advice
	}
	for i := range same {
		if !same[i] && (c.hashes[i] != 0 || gd[i] != 0 && c.t.gd[i] == 0) {
			differ++
		}
	}
	if differ > 0 {
		return fmt.Sprintf("%d of %d redundant grain tables differ from the primary ones, so the program that wrote it was interrupted, or somebody changed it%s", differ, len(gd), advice)
	}
	return ""
}

// table gives the entries of a grain table; nil for one that is not allocated.
func (t *tables) table(i int) ([]uint32, error) {
	if t.gd[i] == 0 {
		return nil, nil
	}
	t.mu.Lock()
	entries, ok := t.cache[i]
	t.mu.Unlock()
	if ok {
		return entries, nil
	}
	b := make([]byte, t.h.gtes*4)
	if err := image.ReadFull(t.src, b, int64(t.gd[i])*sector); err != nil {
		return nil, fmt.Errorf("%s: vmdk: read grain table %d: %w", t.src.Name(), i, err)
	}
	entries = make([]uint32, t.h.gtes)
	for j := range entries {
		entries[j] = binary.LittleEndian.Uint32(b[4*j:])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cache) >= t.keep {
		for k := range t.cache { // any one: disks are read in order, and each table in one go
			delete(t.cache, k)
			break
		}
	}
	t.cache[i] = entries
	return entries, nil
}
