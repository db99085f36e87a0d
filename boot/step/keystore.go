package step

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// DescriptorStore keeps descriptors across the death of the orchestrator;
// PID 1 has it. It never reads what they hold.
type DescriptorStore interface {
	Save(name string, f *os.File) error
	Load(name string) (*os.File, error) // os.ErrNotExist without one
	Drop(name string) error
}

// KeyStore holds keys as sealed memfds: descriptors that this process passes
// on and never maps. A key is there from its arrival until its medium is open.
type KeyStore struct {
	mu    sync.Mutex
	files map[string]*os.File // guarded by mu
	fed   map[string]chan struct{}
	keep  DescriptorStore // nil: keys do not outlive the process
}

// NewKeyStore makes a store that saves to keep, which may be nil.
func NewKeyStore(keep DescriptorStore) *KeyStore {
	return &KeyStore{files: map[string]*os.File{}, fed: map[string]chan struct{}{}, keep: keep}
}

// storeName is the key's name in PID 1's store.
func storeName(name string) string { return "key/" + name }

// Put takes f over as the key called name, in the place of an older one.
func (s *KeyStore) Put(name string, f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.files[name]; old != nil {
		old.Close()
	}
	s.files[name] = f
	if c := s.fed[name]; c != nil {
		close(c)
		delete(s.fed, name)
	}
	if s.keep == nil {
		return nil
	}
	if err := s.keep.Save(storeName(name), f); err != nil {
		return fmt.Errorf("keep key %s: %w", name, err)
	}
	return nil
}

// Fed is closed when a key called name is put the next time.
func (s *KeyStore) Fed(name string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fed[name] == nil {
		s.fed[name] = make(chan struct{})
	}
	return s.fed[name]
}

// Get returns a descriptor of its own for the key, or nil.
func (s *KeyStore) Get(name string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	if f == nil && s.keep != nil {
		kept, err := s.keep.Load(storeName(name))
		if err != nil {
			return nil
		}
		s.files[name] = kept
		f = kept
	}
	if f == nil {
		return nil
	}
	own, err := dup(f)
	if err != nil {
		return nil
	}
	return own
}

// dup returns a descriptor of the same file that the caller closes.
func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Has tells whether the key is here.
func (s *KeyStore) Has(name string) bool {
	f := s.Get(name)
	if f == nil {
		return false
	}
	f.Close()
	return true
}

// Drop closes the key: its medium is open, or it did not fit.
func (s *KeyStore) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[name]; f != nil {
		f.Close()
		delete(s.files, name)
	}
	if s.keep != nil {
		_ = s.keep.Drop(storeName(name)) // gone already is what is wanted
	}
}
