package ova

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"initd/v2v/image"
)

// streamer reads a disk out of an archive that comes once. What follows the disk (other disks, the manifest) is read at its end, and then all digests are
// compared.
type streamer struct {
	image.Streamer
	a    *Archive
	tr   *tar.Reader
	body *bufio.Reader // the disk's member, hashed as it is read
	disk Disk
	info image.Info
	sums map[string]sums
	// manifest is nil until it has come.
	manifest []byte
	ctx      context.Context // of the opening
	done     error
}

func openStream(ctx context.Context, r io.Reader, img string, opt image.OpenOptions, formats []image.Format) (image.Streamer, error) {
	s := &streamer{a: &Archive{img: img}, tr: tar.NewReader(r), sums: map[string]sums{}, ctx: ctx}
	for {
		m, err := s.next()
		if err == io.EOF {
			return nil, s.a.corrupt("ova-no-file", "the file of the disk %.100q (%.200q) is not in the archive", s.disk.ID, s.disk.File)
		}
		if err != nil {
			return nil, err
		}
		if ext(m.Name) == ".ovf" {
			if s.disk, err = s.a.Choose(opt.Disk); err != nil {
				return nil, err
			}
			continue
		}
		for _, d := range s.a.Disks { // its file may have been found by another spelling
			if d.ID == s.disk.ID {
				s.disk = d
			}
		}
		if m.Name == s.disk.File {
			return s, s.begin(ctx, m, opt, formats)
		}
		if err := s.pass(m); err != nil {
			return nil, err
		}
	}
}

// next goes to the next member. The description and the manifest it reads.
func (s *streamer) next() (Member, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return Member{}, err
		}
		h, err := s.a.next(s.tr)
		if err != nil {
			return Member{}, err
		}
		if h == nil {
			continue
		}
		m := Member{Name: path.Clean(h.Name), Size: h.Size, Offset: -1}
		if err := s.a.add(m); err != nil {
			return Member{}, err
		}
		switch ext(m.Name) {
		case ".ovf":
			b, err := s.a.small(s.tr, m, maxOVF)
			if err != nil {
				return Member{}, err
			}
			s.sums[m.Name] = digestsOf(b)
			return m, s.a.describe(b)
		case ".mf":
			if s.manifest, err = s.a.small(s.tr, m, maxManifest); err != nil {
				return Member{}, err
			}
			if s.manifest == nil {
				s.manifest = []byte{}
			}
			if s.a.Manifest, err = s.a.parseManifest(s.manifest); err != nil {
				return Member{}, err
			}
			continue
		}
		return m, nil
	}
}

// hasher is what a member's bytes go through: one algorithm if the manifest has come, all otherwise.
func (s *streamer) hasher(file string) sums {
	h := allSums()
	if s.manifest != nil {
		h = sums{}
		if d, ok := s.a.digest(file); ok {
			h[d.Algorithm] = newHash(d.Algorithm)
		}
	}
	s.sums[file] = h
	return h
}

// pass reads over a member.
func (s *streamer) pass(m Member) error {
	n, err := io.Copy(s.hasher(m.Name), s.tr)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && n != m.Size {
		return s.a.corrupt("ova-truncated", "the archive ends in %q: it was cut short", m.Name)
	}
	if err != nil {
		return fmt.Errorf("%s: ova: read %s: %w", s.a.img, m.Name, err)
	}
	return nil
}

// begin opens the disk in its member.
func (s *streamer) begin(ctx context.Context, m Member, opt image.OpenOptions, formats []image.Format) error {
	// The disk's file was not known when the description was read.
	if err := s.a.checkMember(s.disk, m); err != nil {
		return err
	}
	s.body = bufio.NewReaderSize(io.TeeReader(s.tr, s.hasher(m.Name)), 1<<20)
	head, err := s.body.Peek(int(min(m.Size, 64<<10)))
	if err != nil {
		return s.a.corrupt("ova-truncated", "the archive ends in %q: it was cut short", m.Name)
	}
	f, err := s.a.detect(s.disk, formats, func(f image.Format) bool { return f.OpenStream != nil && f.Probe(head, nil, m.Size) })
	if err != nil {
		return err
	}
	if s.Streamer, err = f.OpenStream(ctx, s.body, s.a.img+":"+m.Name, opt); err != nil {
		return err
	}
	if err := s.a.checkCapacity(s.disk, s.Streamer.Size()); err != nil {
		_ = s.Streamer.Close()
		return err
	}
	s.info = s.a.info(s.disk, s.Streamer.Info())
	return nil
}

func (s *streamer) Info() image.Info { return s.info }

// Next gives the disk's data. Its io.EOF says that the whole archive was there, and that the digests agree.
func (s *streamer) Next() (int64, []byte, error) {
	if s.done != nil {
		return 0, nil, s.done
	}
	off, p, err := s.Streamer.Next()
	if err == nil {
		return off, p, nil
	}
	if err == io.EOF {
		if err = s.finish(); err == nil {
			err = io.EOF
		}
	}
	s.done = err
	return 0, nil, err
}

// finish reads what follows the disk.
func (s *streamer) finish() error {
	if n, err := io.Copy(io.Discard, s.body); err != nil {
		return fmt.Errorf("%s: ova: read %s: %w", s.a.img, s.disk.File, err)
	} else if n > 0 {
		return s.a.corrupt("ova-disk-end", "%d bytes follow the disk in %q", n, s.disk.File)
	}
	for {
		m, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := s.pass(m); err != nil {
			return err
		}
	}
	if err := s.a.setManifest(s.manifest); err != nil {
		return err
	}
	for _, m := range s.a.Members {
		if h, ok := s.sums[m.Name]; ok {
			if err := s.a.compare(m.Name, h); err != nil {
				return err
			}
		}
	}
	return nil
}
