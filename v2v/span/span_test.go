package span_test

import (
	"testing"

	"initd/v2v/span"

	"pgregory.net/rapid"
)

func TestOverlapIsWhatABitmapSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const units = 200
		var s span.Set
		var claims [units + 20]int
		for range rapid.IntRange(0, 30).Draw(t, "claims") {
			at := rapid.IntRange(0, units-1).Draw(t, "at")
			n := rapid.IntRange(0, 20).Draw(t, "n")
			if !s.Add(uint32(at), uint32(n)) {
				t.Fatal("too many pieces")
			}
			for i := at; i < at+n; i++ {
				claims[i]++
			}
		}
		twice := false
		for _, n := range claims {
			twice = twice || n > 1
		}
		if _, found := s.Overlap(); found != twice {
			t.Fatalf("Overlap() = %v, want %v", found, twice)
		}
		if twice {
			return
		}
		for at := range units {
			for _, n := range []int{1, 3, 20} {
				want := false
				for i := at; i < at+n; i++ {
					want = want || claims[i] > 0
				}
				if got := s.Meets(uint64(at), uint64(n)); got != want {
					t.Fatalf("Meets(%d, %d) = %v, want %v", at, n, got, want)
				}
			}
		}
	})
}

func TestTheLastUnitsOfALargeFile(t *testing.T) {
	var s span.Set
	s.Add(1<<32-4, 8) // a grain may begin below 2 TiB and end behind
	s.Add(1<<32-1, 1)
	if at, found := s.Overlap(); !found || at != 1<<32-1 {
		t.Errorf("Overlap() = %d, %v", at, found)
	}
}

func TestPiecesInOrderAreOne(t *testing.T) {
	var s span.Set
	for i := range uint32(2 * span.Max / 1000) {
		if !s.Add(i*1000, 1000) {
			t.Fatal("claims in order ran out of pieces")
		}
	}
	if _, found := s.Overlap(); found {
		t.Error("claims in order overlap")
	}
}
