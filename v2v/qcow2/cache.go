package qcow2

import "sync"

// tableCacheBytes bounds what the cached L2 tables take: 16 MiB are the map of 128 GiB with clusters of 64 KiB.
const tableCacheBytes = 16 << 20

// tableCache holds the L2 tables that were used last, by place in the file.
type tableCache struct {
	mu     sync.Mutex
	limit  int
	tables map[int64]*cachedTable
	clock  int64
}

type cachedTable struct {
	once sync.Once
	b    []byte
	err  error
	used int64 // guarded by the cache's mutex
}

// get gives a table, reading it if need be; several goroutines that want the same one read it once.
func (c *tableCache) get(place int64, read func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	if c.tables == nil {
		c.tables = map[int64]*cachedTable{}
	}
	t := c.tables[place]
	if t == nil {
		if len(c.tables) >= c.limit {
			c.evict()
		}
		t = &cachedTable{}
		c.tables[place] = t
	}
	c.clock++
	t.used = c.clock
	c.mu.Unlock()
	t.once.Do(func() { t.b, t.err = read() })
	if t.err != nil {
		c.mu.Lock()
		if c.tables[place] == t {
			delete(c.tables, place)
		}
		c.mu.Unlock()
	}
	return t.b, t.err
}

// evict drops the older half, so that the search for it is paid for by many reads.
func (c *tableCache) evict() {
	var newest, oldest int64 = c.clock, c.clock
	for _, t := range c.tables {
		oldest = min(oldest, t.used)
	}
	middle := oldest + (newest-oldest)/2
	for place, t := range c.tables {
		if t.used <= middle {
			delete(c.tables, place)
		}
	}
}
