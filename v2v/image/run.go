package image

import "sync"

// LastRun remembers the last answer to NextData. The kernel looks at each page of a run to find its end (mm/filemap.c,
// mapping_seek_hole_data), and an image has many extents in one run. The zero value remembers nothing; it is safe for several goroutines.
type LastRun struct {
	mu               sync.Mutex
	from, start, end int64
}

// Next is NextData: out of memory, or by asking.
func (l *LastRun) Next(from int64, ask func(from int64) (start, end int64, err error)) (start, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.from || from >= l.end {
		start, end, err := ask(from)
		if err != nil {
			return 0, 0, err
		}
		l.from, l.start, l.end = from, start, end
	}
	return max(from, l.start), l.end, nil
}
