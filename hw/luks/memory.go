package luks

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"initd/hw/sysfs"
)

// memory admits argon2 by what it takes: a default slot asks for 1 GiB, and 16 of them at once for more than most
// machines have. Those who wait are served in the order they came, so that a large one is not starved by small ones.
type memory struct {
	mu      sync.Mutex
	total   uint64 // KiB
	free    uint64
	warmed  uint64 // as much of the heap has its pages
	waiting []*waiter
}

type waiter struct {
	need  uint64
	ready chan struct{}
}

func newMemory(totalKiB uint64) *memory { return &memory{total: totalKiB, free: totalKiB} }

// acquire waits until need KiB are free, and gives them back by release. *TooCostlyError if they can never be.
func (m *memory) acquire(ctx context.Context, need uint64) (release func(), err error) {
	if need == 0 {
		return func() {}, nil
	}
	release = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.free += need
		m.serve()
	}
	m.mu.Lock()
	if need > m.total {
		m.mu.Unlock()
		return nil, &TooCostlyError{NeedKiB: need, HaveKiB: m.total}
	}
	w := &waiter{need, make(chan struct{})}
	m.waiting = append(m.waiting, w)
	m.serve()
	m.mu.Unlock()
	select {
	case <-w.ready:
		return release, nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, other := range m.waiting {
		if other == w {
			m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
			m.serve() // whoever stood behind it may be smaller
			return nil, &UnfinishedError{Doing: fmt.Sprintf("waiting for %d MiB of memory", need/1024), Err: context.Cause(ctx)}
		}
	}
	return release, nil // it was served at the same moment
}

// warm writes to as many fresh pages of the heap as argon2 is about to be given, and frees them. argon2 reads each page before
// it writes to it: the kernel then maps its page of zeros first and copies it after, 4 KiB at a time where it would give 2 MiB
// at once. It is called with need KiB acquired.
func (m *memory) warm(need uint64) {
	m.mu.Lock()
	used := m.total - m.free
	fresh := need > 0 && used > m.warmed
	m.warmed = max(m.warmed, used)
	m.mu.Unlock()
	if !fresh {
		return
	}
	pages := make([]byte, need<<10)
	for i := 0; i < len(pages); i += 4096 {
		pages[i] = 1
	}
	runtime.KeepAlive(pages)
	runtime.GC()
}

func (m *memory) serve() {
	for len(m.waiting) > 0 && m.waiting[0].need <= m.free {
		m.free -= m.waiting[0].need
		close(m.waiting[0].ready)
		m.waiting = m.waiting[1:]
	}
}

// AvailableMemory is how much derivation may take on this machine now, in KiB: three quarters of MemAvailable
// (Documentation/filesystems/proc.rst), because everything else is starting at the same time.
func AvailableMemory(f *sysfs.FS) (uint64, error) {
	text, err := f.String("proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemAvailable:" && fields[2] == "kB" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				break
			}
			return kib / 4 * 3, nil
		}
	}
	return 0, errors.New("read proc/meminfo: it has no MemAvailable")
}
