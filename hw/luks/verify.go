package luks

import (
	"context"
	"io"

	"initd/hw/secret"
)

// VerifyRequest asks whether one of Keys opens a volume.
type VerifyRequest struct {
	Header    io.ReaderAt // the device, or the file with its detached header
	Detached  bool
	DataSize  uint64 // of the device with the data, in bytes
	Keys      []*secret.Buffer
	MemoryKiB uint64 // what argon2 may take, see AvailableMemory
	Foreign   func(io.ReaderAt) (string, error)
}

// Verified is a volume that a key opens.
type Verified struct {
	UUID       string `json:"uuid"`
	Version    int    `json:"version"`
	Secondary  bool   `json:"secondary,omitempty"` // the second copy of the header was used
	Damage     string `json:"damage,omitempty"`    // what is wrong with the other copy
	Slot       int    `json:"slot"`
	Key        int    `json:"key"` // which of the keys, from 0
	Cipher     string `json:"cipher"`
	KeySize    int    `json:"keySize"`    // bytes
	SectorSize uint64 `json:"sectorSize"` // bytes
	Offset     uint64 `json:"offset"`     // of the data, in bytes
	Length     uint64 `json:"length"`     // of the data, in bytes
}

// Verify goes all the way that Derive goes, up to the digest of the volume key, and then forgets the key: no device
// mapper, no keyring, no privilege but to read. The errors are those of this package.
func Verify(ctx context.Context, r VerifyRequest) (Verified, error) {
	source := headerSource{at: r.Header, detached: r.Detached, dataSize: r.DataSize, foreign: r.Foreign}
	h, err := readHeader(source)
	if err != nil {
		return Verified{}, err
	}
	found, err := h.unlock(ctx, source.at, r.Keys, newMemory(r.MemoryKiB), func(string) {})
	if err != nil {
		return Verified{}, err
	}
	defer found.volumeKey.Destroy()
	p := h.params(found)
	return Verified{
		UUID: p.UUID, Version: p.Version, Secondary: p.Secondary, Damage: p.Damage, Slot: p.Slot, Key: p.Key, Cipher: p.Cipher,
		KeySize: p.KeySize, SectorSize: p.SectorSize, Offset: p.Offset * SectorSize, Length: p.Length * SectorSize,
	}, nil
}
