// Package secret holds key material: passphrases, keys from key servers, volume keys.
//
// It owns the memory a secret lies in (locked, left out of core dumps, wiped on Destroy and on fork), the sealed memfds
// in which a secret travels from process to process, and what a process that handles secrets does to itself first.
// It needs mlock(2), memfd_create(2) with sealing, and prctl(PR_SET_DUMPABLE). It never writes a secret to a file with a
// name, never prints one, and imports nothing of this program.
//
// What is guaranteed: the bytes in a Buffer exist once, in pages that are neither swapped nor dumped, until Destroy
// zeroes them. What is not: a library that is handed Bytes may copy them into the Go heap or leave them on a stack (a
// hash does, and every KDF), where the garbage collector moves and frees without wiping. Code that lends Bytes out
// therefore belongs into a short-lived process that has called ProtectProcess; the kernel wipes its pages when it dies
// if it was booted with init_on_free=1.
//
// A sealed memfd is shared memory: it cannot be changed by anyone, but its pages can be swapped, unless the process that
// made it was in a group with memory.swap.max=0, as init's children are (initd/pid1). Where there is swap for others, it has to be
// encrypted; the descriptor is closed as soon as it was read.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// redacted is what every way of printing gives.
const redacted = "REDACTED"

// ErrEmpty: there is nothing where a secret was to be read.
var ErrEmpty = errors.New("it is empty")

// ErrMarshal is the answer to every attempt to marshal a secret.
var ErrMarshal = errors.New("a secret cannot be marshalled")

// MaxSize bounds one secret, in bytes. Locked memory is scarce (RLIMIT_MEMLOCK is 8 MiB by default).
const MaxSize = 4 << 20

// Buffer is a secret of a fixed length. Whoever makes one destroys it. It is not safe for concurrent use, except that
// several goroutines may read Bytes.
type Buffer struct {
	m *memory // a pointer, so that a copied Buffer neither splits nor shows the secret
}

type memory struct {
	pages []byte // whole pages, as mapped
	bytes []byte // the secret, at their start
}

// New returns a zeroed buffer of size bytes, 1 to MaxSize.
func New(size int) (*Buffer, error) {
	if size < 1 || size > MaxSize {
		return nil, fmt.Errorf("allocate secret: size %d is not within 1 to %d", size, MaxSize)
	}
	page := os.Getpagesize()
	length := (size + page - 1) / page * page
	pages, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("allocate secret: mmap of %d bytes: %w", length, err)
	}
	b := &Buffer{m: &memory{pages: pages, bytes: pages[:size:size]}}
	if err := unix.Mlock(pages); err != nil {
		b.Destroy()
		return nil, fmt.Errorf("allocate secret: mlock of %d bytes (raise RLIMIT_MEMLOCK): %w", length, err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(pages, advice); err != nil {
			b.Destroy()
			return nil, fmt.Errorf("allocate secret: madvise %d: %w", advice, err)
		}
	}
	return b, nil
}

// From moves plain into a new buffer: plain is zeroed, whether or not an error is returned.
func From(plain []byte) (*Buffer, error) {
	defer clear(plain)
	return Copy(plain)
}

// Copy copies plain, which somebody else wipes, into a new buffer.
func Copy(plain []byte) (*Buffer, error) {
	b, err := New(len(plain))
	if err != nil {
		return nil, err
	}
	copy(b.m.bytes, plain)
	return b, nil
}

// Read reads r to its end into a new buffer of at most limit bytes. Nothing of it passes through the Go heap as long
// as r reads straight into the slice it is given (an *os.File does).
func Read(r io.Reader, limit int) (*Buffer, error) {
	if limit < 1 || limit >= MaxSize {
		return nil, fmt.Errorf("read secret: limit %d is not within 1 to %d", limit, MaxSize-1)
	}
	whole, err := New(limit + 1) // one more, to see that there is more
	if err != nil {
		return nil, err
	}
	defer whole.Destroy()
	n, err := io.ReadFull(r, whole.m.bytes)
	switch {
	case err == nil:
		return nil, fmt.Errorf("read secret: longer than %d bytes", limit)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read secret: %w", ErrEmpty)
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("read secret: %w", err)
	}
	return From(whole.m.bytes[:n])
}

// Bytes is the secret itself, nil after Destroy. The slice must not be used after Destroy: its pages are gone then.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.m == nil {
		return nil
	}
	return b.m.bytes
}

// Len is the length of the secret in bytes; 0 after Destroy.
func (b *Buffer) Len() int { return len(b.Bytes()) }

// Clone returns a second buffer with the same content, destroyed by itself.
func (b *Buffer) Clone() (*Buffer, error) {
	other, err := New(b.Len())
	if err != nil {
		return nil, err
	}
	copy(other.m.bytes, b.Bytes())
	return other, nil
}

// Equal compares in a time that depends on the lengths alone. Destroyed buffers equal nothing.
func (b *Buffer) Equal(other *Buffer) bool {
	return b.Len() > 0 && subtle.ConstantTimeCompare(b.Bytes(), other.Bytes()) == 1
}

// Destroy zeroes and releases the memory. It may be called again, and on nil.
func (b *Buffer) Destroy() {
	if b == nil || b.m == nil || b.m.pages == nil {
		return
	}
	clear(b.m.pages)
	pages := b.m.pages
	b.m.pages, b.m.bytes = nil, nil
	if err := unix.Munmap(pages); err != nil {
		panic(fmt.Sprintf("secret: munmap of our own pages: %v", err)) // only a corrupted slice header can do this
	}
}

// Format prints REDACTED whatever the verb.
func (Buffer) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // fmt.State keeps its own error
}

func (Buffer) String() string                 { return redacted }
func (Buffer) GoString() string               { return redacted }
func (Buffer) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (Buffer) MarshalJSON() ([]byte, error)   { return nil, ErrMarshal }
func (Buffer) MarshalText() ([]byte, error)   { return nil, ErrMarshal }
func (Buffer) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
func (Buffer) MarshalYAML() (any, error)      { return nil, ErrMarshal }
