package qcow2

// usage notes which clusters of the file are taken. Its memory is bounded: pages come when a cluster in them is taken, and there are at most
// maxUsagePages of them.
type usage struct {
	pages map[int64]*usagePage
	last  *usagePage
	at    int64
}

// usagePage stands for pageClusters clusters: taken by one thing alone, or shared by compressed streams.
type usagePage struct {
	alone, shared [pageClusters / 64]uint64
}

const (
	pageClusters  = 1 << 15
	maxUsagePages = 8192 // of 8 KiB: 64 MiB
)

// claim takes the clusters from first to last. It gives the first one that was taken already in a way that does not go together, or -1;
// full says that the bound of the memory is reached.
func (u *usage) claim(first, last int64, share bool) (clash int64, full bool) {
	for c := first; c <= last; c++ {
		page := c / pageClusters
		if u.last == nil || u.at != page {
			if u.pages == nil {
				u.pages = map[int64]*usagePage{}
			}
			p := u.pages[page]
			if p == nil {
				if len(u.pages) >= maxUsagePages {
					return -1, true
				}
				p = new(usagePage)
				u.pages[page] = p
			}
			u.last, u.at = p, page
		}
		word, bit := c%pageClusters/64, uint64(1)<<(c%64)
		if u.last.alone[word]&bit != 0 || (!share && u.last.shared[word]&bit != 0) {
			return c, false
		}
		if share {
			u.last.shared[word] |= bit
		} else {
			u.last.alone[word] |= bit
		}
	}
	return -1, false
}
