package luks

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"
	//lint:ignore SA1019 a hash that old headers name; nothing is hashed anew with it
	"golang.org/x/crypto/ripemd160"
)

// maxIterations is what a 32-bit header of LUKS1 and cryptsetup's int can hold.
const maxIterations = 1<<31 - 1

// kdf turns a key into the key of a slot's area.
type kdf struct {
	kind string // pbkdf2, argon2i, argon2id
	salt []byte

	hash       string // pbkdf2
	iterations int

	time, memoryKiB uint32 // argon2
	threads         uint8
}

// cost is the memory that derive takes, in KiB.
func (k kdf) cost() uint64 { return uint64(k.memoryKiB) }

func (k kdf) String() string {
	if k.kind == "pbkdf2" {
		return fmt.Sprintf("pbkdf2 of %s", count(k.iterations, "iteration"))
	}
	return fmt.Sprintf("%s of %d MiB, %s", k.kind, k.memoryKiB/1024, count(int(k.time), "pass"))
}

// work is what deriving a key of size bytes takes: hashes of PBKDF2 and blocks of argon2, each about a microsecond.
func (k kdf) work(size int) uint64 {
	if k.kind == "pbkdf2" {
		return stretchWork(k.hash, k.iterations, size)
	}
	return uint64(k.time) * uint64(k.memoryKiB) // below 2^63: see newSlot
}

func stretchWork(hashName string, iterations, size int) uint64 {
	newHash, err := hashByName(hashName)
	if err != nil {
		return 0 // nothing is done for it
	}
	width := newHash().Size()
	return uint64(iterations) * uint64((size+width-1)/width)
}

// derive returns size bytes, which the caller clears. It cannot be interrupted; the libraries leave copies of key and
// result on their stacks and in the Go heap.
func (k kdf) derive(key []byte, size int) ([]byte, error) {
	switch k.kind {
	case "pbkdf2":
		return stretch(key, k.salt, k.hash, k.iterations, size)
	case "argon2i":
		defer runtime.GC() // the next slot is given the same blocks: see Derive
		return argon2.Key(key, k.salt, k.time, k.memoryKiB, k.threads, uint32(size)), nil
	case "argon2id":
		defer runtime.GC()
		return argon2.IDKey(key, k.salt, k.time, k.memoryKiB, k.threads, uint32(size)), nil
	}
	return nil, unsupported("the key derivation %.40q", k.kind)
}

// stretch is PBKDF2. The library wants a string: this one borrows the key's bytes instead of copying them.
func stretch(key, salt []byte, hashName string, iterations, size int) ([]byte, error) {
	newHash, err := hashByName(hashName)
	if err != nil {
		return nil, err
	}
	return pbkdf2.Key(newHash, unsafe.String(unsafe.SliceData(key), len(key)), salt, iterations, size)
}

// hashByName knows the hashes of cryptsetup that exist for Go; whirlpool, sm3 and stribog do not. cryptsetup passes a name on
// to OpenSSL, which takes it in capital letters too and has names of its own for some.
func hashByName(name string) (func() hash.Hash, error) {
	switch strings.ToLower(name) {
	case "sha1":
		return sha1.New, nil
	case "sha224":
		return sha256.New224, nil
	case "sha256":
		return sha256.New, nil
	case "sha384":
		return sha512.New384, nil
	case "sha512":
		return sha512.New, nil
	case "sha512-224":
		return sha512.New512_224, nil
	case "sha512-256":
		return sha512.New512_256, nil
	case "sha3-224":
		return func() hash.Hash { return sha3.New224() }, nil
	case "sha3-256":
		return func() hash.Hash { return sha3.New256() }, nil
	case "sha3-384":
		return func() hash.Hash { return sha3.New384() }, nil
	case "sha3-512":
		return func() hash.Hash { return sha3.New512() }, nil
	case "ripemd160", "rmd160":
		return ripemd160.New, nil
	case "blake2b-512", "blake2b512":
		return func() hash.Hash { h, _ := blake2b.New512(nil); return h }, nil // fails on a key only
	case "blake2s-256", "blake2s256":
		return func() hash.Hash { h, _ := blake2s.New256(nil); return h }, nil
	}
	return nil, unsupported("the hash %.40q", name)
}
