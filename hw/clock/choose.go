package clock

import (
	"cmp"
	"slices"
	"time"
)

// choose picks the best of samples, one at least. Each says that the offset lies within Distance of its own; the most that
// agree on some offset are right (the intersection of RFC 5905, 11.2.1, where a majority is wanted), and of those the one
// that is nearest to its source. agreed is how many they are.
func choose(samples []Sample) (best Sample, agreed int) {
	var right []Sample
	for _, edge := range samples {
		// The most intervals overlap where one of them begins.
		at := edge.Offset - edge.Distance
		var together []Sample
		for _, s := range samples {
			if s.Offset-s.Distance <= at && at <= s.Offset+s.Distance {
				together = append(together, s)
			}
		}
		if len(together) > len(right) || len(together) == len(right) && nearest(together).Distance < nearest(right).Distance {
			right = together
		}
	}
	return nearest(right), len(right)
}

func nearest(list []Sample) Sample {
	return slices.MinFunc(list, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.Stratum, b.Stratum), cmp.Compare(a.Server, b.Server))
	})
}

// Sample is one server's answer.
type Sample struct {
	Server   string
	Offset   time.Duration // to be added to our clock, as it was when the request left
	Delay    time.Duration // round trip
	Distance time.Duration // how far Offset may be off, as the server and the way to it are
	Stratum  int
	// Disputed: no majority of the servers that answered agrees with this one.
	Disputed bool

	sent Anchor
}

// Now is the right time, by this sample. It holds whatever happened to the clock since the answer came.
func (s Sample) Now() time.Time { return s.sent.At(Boottime()).Add(s.Offset) }
