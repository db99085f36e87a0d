package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// writer writes records to a file, each synced before the next, and remembers which were acknowledged.
type writer struct {
	file *os.File
	size int
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex
	acked   int           // guarded by mu
	longest time.Duration // that one record took; guarded by mu
	failed  error         // guarded by mu
	grown   *sync.Cond
}

// maxRecordsOfLoad keeps the file small: then it is written anew from its start.
const maxRecordsOfLoad = 1024

// record is the content of the n-th one: nobody else writes the same.
func record(n, size int) []byte {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	sum := sha256.Sum256(seed[:])
	return bytes.Repeat(sum[:], size/len(sum)+1)[:size]
}

func (w *writer) start(path, size string) error {
	var err error
	if w.size, err = strconv.Atoi(size); err != nil {
		return err
	}
	if w.file, err = os.Create(path); err != nil {
		return err
	}
	w.quit, w.done = make(chan struct{}), make(chan struct{})
	w.grown = sync.NewCond(&w.mu)
	go w.run()
	return nil
}

func (w *writer) run() {
	defer close(w.done)
	for n := 0; ; n++ {
		select {
		case <-w.quit:
			return
		default:
		}
		begin := time.Now()
		_, err := w.file.WriteAt(record(n, w.size), int64(n%maxRecordsOfLoad)*int64(w.size))
		err = errors.Join(err, w.file.Sync())
		w.mu.Lock()
		w.longest = max(w.longest, time.Since(begin))
		w.failed = err
		if err == nil {
			w.acked = n + 1
		}
		w.grown.Broadcast()
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *writer) more(count string) (map[string]any, error) {
	n, err := strconv.Atoi(count)
	if err != nil || w.grown == nil {
		return nil, fmt.Errorf("how many: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for want := w.acked + n; w.acked < want && w.failed == nil; {
		w.grown.Wait()
	}
	return map[string]any{"acked": w.acked}, w.failed
}

// stop ends the writing, and reads what was acknowledged from the medium itself.
func (w *writer) stop() (map[string]any, error) {
	close(w.quit)
	<-w.done
	defer w.file.Close()
	if w.failed != nil {
		return map[string]any{"acked": w.acked}, w.failed
	}
	if err := unix.Fadvise(int(w.file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return nil, err
	}
	b := make([]byte, w.size)
	for n := max(0, w.acked-maxRecordsOfLoad); n < w.acked; n++ {
		if _, err := w.file.ReadAt(b, int64(n%maxRecordsOfLoad)*int64(w.size)); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("record %d: %w", n, err)
		}
		if !bytes.Equal(b, record(n, w.size)) {
			return nil, fmt.Errorf("record %d was acknowledged, and is not there", n)
		}
	}
	return map[string]any{"acked": w.acked, "longest": w.longest.Seconds()}, nil
}
