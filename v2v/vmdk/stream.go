package vmdk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"initd/v2v/image"
)

// maxOverhead is how many bytes of tables may come before the data of a stream: those of 64 TiB, twice.
const maxOverhead = 2 * (maxSize / (512 * 64 << 10)) * (512*4 + 8)

// streamer reads a streamOptimized disk that comes once. Grains are decoded by several goroutines and given in order.
type streamer struct {
	ctx   context.Context // of the opening; it ends the reading
	info  image.Info
	jobs  chan *job
	stop  chan struct{}
	spare chan []byte
	last  *job
	err   error
}

// job is a grain on its way.
type job struct {
	offset  int64
	data    []byte // decoded, what the disk shows of it
	err     error
	decoded chan struct{}
}

// openStream reads the header, the descriptor and the tables before the data. The stream has to be streamOptimized with its grains in the order of the
// disk, as VMware and VirtualBox write it. Nothing of it may be trusted before Next has returned io.EOF: then the end of the stream was there, and the
// tables and the footer list exactly the grains that came.
func openStream(ctx context.Context, r io.Reader, img string, opt image.OpenOptions) (image.Streamer, error) {
	in := &stream{r: bufio.NewReaderSize(r, 1<<20), img: img}
	head, err := in.sectors(1)
	if err != nil {
		return nil, in.cut(err, "header")
	}
	if err := foreign(img, head); err != nil {
		return nil, err
	}
	if string(head[:4]) != magicSparse {
		if isText(head) {
			return nil, unsupported(img, "vmdk-not-streamed", "a descriptor that names further files cannot be read from a pipe", "give the file")
		}
		return nil, notThis(img)
	}
	h := decodeHeader(head)
	if err := h.check(img, opt.MaxSize); err != nil {
		return nil, err
	}
	d, err := in.front(ctx, h)
	if err != nil {
		return nil, err
	}
	want, err := d.embedded(img, h)
	if err != nil {
		return nil, err
	}
	if over := int64(h.capacity) - want; over < 0 || over >= int64(h.grain) {
		return nil, corrupt(img, "vmdk-capacity", "the header says %d sectors, and the descriptor %d", h.capacity, want)
	}
	workers := min(runtime.GOMAXPROCS(0), 16)
	s := &streamer{
		ctx:   ctx,
		info:  d.info(h, want*sector),
		jobs:  make(chan *job, 4*workers),
		stop:  make(chan struct{}),
		spare: make(chan []byte, 4*workers),
	}
	if h.unclean {
		s.info.Warnings = append(s.info.Warnings, "it was not closed by the program that wrote it (uncleanShutdown is set)")
	}
	go s.produce(in, workers)
	return s, nil
}

func (s *streamer) Size() int64      { return s.info.Size }
func (s *streamer) Info() image.Info { return s.info }

// Close stops the reading. A read of the source that stands is ended by whoever closes the source.
func (s *streamer) Close() error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	return nil
}

func (s *streamer) Next() (int64, []byte, error) {
	if s.err != nil {
		return 0, nil, s.err
	}
	if s.last != nil {
		s.give(s.last.data)
	}
	j, ok := <-s.jobs
	if !ok {
		if s.err = context.Cause(s.ctx); s.err == nil {
			s.err = errors.New("vmdk: the stream was closed")
		}
		return 0, nil, s.err
	}
	<-j.decoded
	if j.err != nil {
		s.err = j.err
		return 0, nil, s.err
	}
	s.last = j
	return j.offset, j.data, nil
}

// give keeps a buffer for the next grain.
func (s *streamer) give(b []byte) {
	select {
	case s.spare <- b[:cap(b)]:
	default:
	}
}

func (s *streamer) take(n int64) []byte {
	select {
	case b := <-s.spare:
		if int64(cap(b)) >= n {
			return b[:n]
		}
	default:
	}
	return make([]byte, n)
}

// produce reads grains and has them decoded, at most cap(jobs) and a few ahead. The last job carries io.EOF or what went wrong.
func (s *streamer) produce(in *stream, workers int) {
	defer close(s.jobs)
	ctx := s.ctx
	slots := make(chan struct{}, workers)
	send := func(j *job) bool {
		select {
		case s.jobs <- j:
			return true
		case <-s.stop:
			return false
		case <-ctx.Done():
			return false
		}
	}
	done := make(chan struct{})
	close(done)
	for {
		if err := ctx.Err(); err != nil {
			send(&job{err: err, decoded: done})
			return
		}
		lba, data, err := in.next(s)
		if err != nil {
			send(&job{err: err, decoded: done})
			return
		}
		j := &job{offset: int64(lba) * sector, decoded: make(chan struct{})}
		select {
		case slots <- struct{}{}:
		case <-s.stop:
			return
		}
		if !send(j) {
			return
		}
		go func() {
			defer close(j.decoded)
			whole := s.take(in.h.grainBytes)
			visible := min(in.h.grainBytes, int64(in.h.capacity)*sector-j.offset)
			j.err = decodeGrain(in.img, lba, whole, data, int(visible))
			j.data = whole[:min(visible, s.info.Size-j.offset)]
			s.give(data)
			<-slots
		}()
	}
}

// stream is the source with the place in it, and what was seen so far.
type stream struct {
	r    *bufio.Reader
	img  string
	at   int64 // sectors read
	h    header
	seen *seen
	buf  []byte
}

// sectors reads whole sectors; the bytes are valid until the next call.
func (in *stream) sectors(n int64) ([]byte, error) {
	if int64(cap(in.buf)) < n*sector {
		in.buf = make([]byte, n*sector)
	}
	in.buf = in.buf[:n*sector]
	k, err := io.ReadFull(in.r, in.buf)
	in.at += n
	if err == io.EOF && k > 0 {
		err = io.ErrUnexpectedEOF
	}
	return in.buf, err
}

// cut explains an error of the source: its end is where something was to come.
func (in *stream) cut(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(in.img, "vmdk-truncated", "the stream ends in its %s, near byte %d", what, in.at*sector)
	}
	return fmt.Errorf("%s: vmdk: read the %s: %w", in.img, what, err)
}

// front reads what comes before the data: the descriptor, and the tables unless they come at the end.
func (in *stream) front(ctx context.Context, h header) (*descriptor, error) {
	const do = "give the file instead of a pipe"
	in.h = h
	end := int64(h.overhead)
	switch {
	case !h.compressed():
		return nil, unsupported(in.img, "vmdk-not-streamed", "only a streamOptimized disk can be read from a pipe, and this one is monolithicSparse", do)
	case h.descOffset == 0 || h.descSize == 0:
		return nil, partOnly(in.img)
	case h.descSize > maxDescriptor/sector:
		return nil, tooLarge(in.img, "vmdk-descriptor", "a descriptor of %d sectors; at most %d are read", h.descSize, maxDescriptor/sector)
	case h.overhead > maxOverhead/sector:
		return nil, tooLarge(in.img, "vmdk-tables", "%d sectors of tables before the data; at most %d are read", h.overhead, maxOverhead/sector)
	case h.descOffset >= h.overhead || h.descOffset+h.descSize > h.overhead:
		return nil, unsupported(in.img, "vmdk-not-streamed", "the descriptor does not come before the data", do)
	}
	in.seen = newSeen(in.img, h)
	var text []byte
	for in.at < end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at := uint64(in.at)
		b, err := in.sectors(1)
		if err != nil {
			return nil, in.cut(err, "tables")
		}
		if at >= h.descOffset && at < h.descOffset+h.descSize {
			text = append(text, b...)
			continue
		}
		if err := in.seen.front(at, b); err != nil {
			return nil, err
		}
	}
	if err := in.seen.frontDone(); err != nil {
		return nil, err
	}
	return parseDescriptor(in.img, text)
}

// next gives the next grain, whose data come out of the streamer's spare buffers. It passes over markers, and checks everything at the end.
func (in *stream) next(s *streamer) (lba uint64, data []byte, err error) {
	for {
		at := uint64(in.at)
		b, err := in.sectors(1)
		if err == io.EOF {
			return 0, nil, in.seen.endWithoutMarker(at)
		}
		if err != nil {
			return 0, nil, in.cut(err, "data")
		}
		m := decodeMarker(b)
		if m.grain() {
			return in.grain(s, at, m, b)
		}
		if m.kind == markerEOS && !image.IsZero(b) {
			return 0, nil, corrupt(in.img, "vmdk-eos", "the end-of-stream marker at sector %d is not empty", at)
		}
		if err := in.marker(at, m); err != nil {
			return 0, nil, err
		}
	}
}

// grain reads the rest of a grain, whose first sector is given.
func (in *stream) grain(s *streamer, at uint64, m marker, first []byte) (uint64, []byte, error) {
	if int64(m.size) > in.h.maxGrainData() {
		return 0, nil, corrupt(in.img, "vmdk-grain-marker", "the grain at sector %d of the stream is said to have %d bytes, more than two grains", at, m.size)
	}
	if err := in.seen.grain(m.value, at); err != nil {
		return 0, nil, err
	}
	data := s.take(in.h.maxGrainData())[:m.size]
	n := copy(data, first[grainHead:])
	if rest := data[n:]; len(rest) > 0 {
		if _, err := io.ReadFull(in.r, rest); err != nil {
			return 0, nil, in.cut(err, "data")
		}
		padding := sectorsOf(int64(len(rest)))*sector - int64(len(rest))
		if _, err := in.r.Discard(int(padding)); err != nil {
			return 0, nil, in.cut(err, "data")
		}
		in.at += sectorsOf(int64(len(rest)))
	}
	return m.value, data, nil
}

// end is called behind the end-of-stream marker. Where the tables come first a file may be filled up with zeros to a whole grain, as qemu-img does.
func (in *stream) end() error {
	rest := int64(0)
	if in.seen.fromFront {
		rest = in.h.grainBytes
	}
	b, err := io.ReadAll(io.LimitReader(in.r, rest+1))
	if err != nil {
		return in.cut(err, "end")
	}
	if int64(len(b)) > rest || !image.IsZero(b) {
		return corrupt(in.img, "vmdk-after-end", "there are bytes after the end of the stream")
	}
	return io.EOF
}

// marker takes what is no grain. It returns io.EOF at the end of a stream in which all agrees.
func (in *stream) marker(at uint64, m marker) error {
	body := func(what string, want int64) ([]byte, error) {
		if m.value != uint64(want) {
			return nil, corrupt(in.img, "vmdk-marker", "the %s marker at sector %d announces %d sectors, and it has %d", what, at, m.value, want)
		}
		b, err := in.sectors(want)
		if err != nil {
			return nil, in.cut(err, what)
		}
		return b, nil
	}
	switch m.kind {
	case markerEOS:
		if !in.seen.all() {
			return nil // a gap between the tables and the data, as qemu-img leaves it
		}
		if err := in.seen.end(); err != nil {
			return err
		}
		return in.end()
	case markerGT:
		b, err := body("grain table", int64(in.h.gtSectors()))
		if err != nil {
			return err
		}
		return in.seen.table(at+1, b)
	case markerGD:
		b, err := body("grain directory", sectorsOf(int64(in.h.tables())*4))
		if err != nil {
			return err
		}
		return in.seen.directory(at+1, b)
	case markerFooter:
		b, err := body("footer", 1)
		if err != nil {
			return err
		}
		if string(b[:4]) != magicSparse {
			return corrupt(in.img, "vmdk-footer", "the footer at sector %d is no header", at+1)
		}
		return in.seen.foot(decodeHeader(b))
	case markerProgress:
		return nil
	}
	return corrupt(in.img, "vmdk-marker", "a marker of the unknown type %d at sector %d", m.kind, at)
}
