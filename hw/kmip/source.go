package kmip

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxPEM bounds what is read as certificates or as a key, in bytes.
const maxPEM = 1 << 20

// Source is where public PEM data comes from; the first one that is set counts.
type Source struct {
	PEM  string `json:"pem,omitempty"`
	Path string `json:"path,omitempty"`
	// FD is an open descriptor, read from its start without moving its offset where it can seek. 0 means none.
	FD int `json:"fd,omitempty"`
}

func (s Source) empty() bool { return s.PEM == "" && s.Path == "" && s.FD == 0 }

func (s Source) read() ([]byte, error) {
	if s.PEM != "" {
		return []byte(s.PEM), nil
	}
	return readSource(s.Path, s.FD)
}

// KeySource is where a private key comes from; the first one that is set
// counts. PEM is for callers in the same process: it is neither marshalled nor
// printed.
type KeySource struct {
	PEM  []byte `json:"-"`
	Path string `json:"path,omitempty"`
	// FD is an open descriptor; a sealed memfd is the safest carrier. 0 means none.
	FD int `json:"fd,omitempty"`
}

func (s KeySource) empty() bool { return len(s.PEM) == 0 && s.Path == "" && s.FD == 0 }

// Format prints where the key is from and never the key, whatever the verb.
func (s KeySource) Format(f fmt.State, _ rune) {
	pem := ""
	if len(s.PEM) > 0 {
		pem = "REDACTED"
	}
	fmt.Fprintf(f, "{pem:%s path:%s fd:%d}", pem, s.Path, s.FD) //nolint:errcheck // fmt.State keeps its own error
}

// read returns a copy that the caller wipes.
func (s KeySource) read() ([]byte, error) {
	if len(s.PEM) > 0 {
		return append([]byte(nil), s.PEM...), nil
	}
	return readSource(s.Path, s.FD)
}

func readSource(path string, fd int) ([]byte, error) {
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAllBounded(f, path)
	}
	if fd == 0 {
		return nil, errors.New("nothing to read: neither path nor descriptor is given")
	}
	return readAllBounded(&descriptor{fd: fd}, fmt.Sprintf("descriptor %d", fd))
}

// readAllBounded reads in one buffer that never moves, so that no copy of a key is left behind.
func readAllBounded(r io.Reader, what string) ([]byte, error) {
	buf := make([]byte, maxPEM+1)
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		clear(buf)
		return nil, fmt.Errorf("read %s: more than %d bytes", what, maxPEM)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return buf[:n:n], nil
	default:
		clear(buf)
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
}

// descriptor reads an inherited descriptor by position, so that several
// servers can share one; a pipe has no position and is read as it comes.
type descriptor struct {
	fd  int
	off int64
}

func (d *descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Pread(d.fd, p, d.off)
		if errors.Is(err, unix.ESPIPE) {
			n, err = unix.Read(d.fd, p)
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.EOF
		}
		d.off += int64(n)
		return n, nil
	}
}
