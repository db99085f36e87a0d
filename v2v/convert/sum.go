package convert

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"

	"initd/v2v/image"
)

// sumBlock is what is digested at a time, in bytes. Chunks are a multiple of it.
const sumBlock = smallChunk

// sum is the digest of a disk's content: SHA-256 over offset, length and SHA-256 of each block of 1 MiB that is not all zeros, in order. It
// can be computed in parallel, and depends neither on what is a hole and what are stored zeros, nor on zeros behind the end.
type sum struct {
	h hash.Hash
}

// blockSum is the digest of one block.
type blockSum struct {
	off, length int64
	digest      [sha256.Size]byte
}

func newSum() *sum { return &sum{h: sha256.New()} }

func blockSums(sums []blockSum, off int64, p []byte) []blockSum {
	for len(p) > 0 {
		block := p[:min(int64(len(p)), sumBlock-off%sumBlock)]
		if !image.IsZero(block) {
			sums = append(sums, blockSum{off, int64(len(block)), sha256.Sum256(block)})
		}
		p, off = p[len(block):], off+int64(len(block))
	}
	return sums
}

func (s *sum) add(blocks []blockSum) {
	for _, b := range blocks {
		var p [16 + sha256.Size]byte
		binary.BigEndian.PutUint64(p[:], uint64(b.off))
		binary.BigEndian.PutUint64(p[8:], uint64(b.length))
		copy(p[16:], b.digest[:])
		s.h.Write(p[:])
	}
}

func (s *sum) digest() []byte { return s.h.Sum(nil) }

func (s *sum) state() ([]byte, error) { return s.h.(encoding.BinaryMarshaler).MarshalBinary() }

func (s *sum) restore(p []byte) error {
	if err := s.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(p); err != nil {
		return fmt.Errorf("the state of the earlier run's digest: %w", err)
	}
	return nil
}
