package luks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	//lint:ignore SA1019 a cipher that headers name; nothing is encrypted with it
	"golang.org/x/crypto/twofish"
	"golang.org/x/crypto/xts"
)

// decryptArea decrypts the key material of a slot in place, sector by sector, as dm-crypt would with sectors of 512
// bytes and the first of the area as number 0.
func decryptArea(name string, key, data []byte) error {
	decrypt, err := sectorCipher(name, key)
	if err != nil {
		return err
	}
	for sector := uint64(0); len(data) > 0; sector++ {
		n := min(SectorSize, len(data))
		decrypt(data[:n], sector)
		data = data[n:]
	}
	return nil
}

// sectorCipher knows CIPHER-MODE-IV of dm-crypt for what key slots use: xts and cbc with plain, plain64 or essiv.
func sectorCipher(name string, key []byte) (func(data []byte, sector uint64), error) {
	block, mode, _ := strings.Cut(name, "-")
	mode, iv, _ := strings.Cut(mode, "-")
	var newBlock func([]byte) (cipher.Block, error)
	switch block {
	case "aes":
		newBlock = aes.NewCipher
	case "twofish":
		newBlock = func(key []byte) (cipher.Block, error) { return twofish.NewCipher(key) }
	default:
		return nil, unsupported("the cipher %s for a key slot", name)
	}
	switch {
	case mode == "xts" && (iv == "plain64" || iv == "plain"): // an area has fewer sectors than plain's 32 bits can number
		if len(key)%2 != 0 {
			return nil, fmt.Errorf("a key of %d bytes for %s", len(key), name)
		}
		c, err := xts.NewCipher(newBlock, key)
		if err != nil {
			return nil, fmt.Errorf("a key of %d bytes for %s", len(key), name)
		}
		return func(data []byte, sector uint64) { c.Decrypt(data, data, sector) }, nil
	case mode == "cbc":
		c, err := newBlock(key)
		if err != nil {
			return nil, fmt.Errorf("a key of %d bytes for %s", len(key), name)
		}
		ivOf, err := cbcIV(name, iv, key, newBlock)
		if err != nil {
			return nil, err
		}
		return func(data []byte, sector uint64) {
			cipher.NewCBCDecrypter(c, ivOf(sector)).CryptBlocks(data, data)
		}, nil
	}
	return nil, unsupported("the cipher %s for a key slot", name)
}

func cbcIV(name, iv string, key []byte, newBlock func([]byte) (cipher.Block, error)) (func(uint64) []byte, error) {
	plain := func(sector uint64) []byte {
		return binary.LittleEndian.AppendUint64(nil, sector)[:8:8]
	}
	padded := func(sector uint64) []byte { return append(plain(sector), make([]byte, 8)...) }
	switch iv {
	case "plain", "plain64":
		return padded, nil
	case "essiv:sha256":
		hashed := sha256.Sum256(key)
		defer clear(hashed[:])
		c, err := newBlock(hashed[:])
		if err != nil {
			return nil, fmt.Errorf("a key of %d bytes for %s", len(key), name)
		}
		return func(sector uint64) []byte {
			v := padded(sector)
			c.Encrypt(v, v)
			return v
		}, nil
	}
	return nil, unsupported("the cipher %s for a key slot", name)
}
