package clock

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	at := func(server string, offset, distance time.Duration) Sample {
		return Sample{Server: server, Offset: offset, Distance: distance, Stratum: 2}
	}
	for _, tt := range []struct {
		name    string
		samples []Sample
		want    string
		agreed  int
	}{
		{"one is all there is", []Sample{at("a", time.Hour, time.Second)}, "a", 1},
		{"two that agree: the nearer", []Sample{at("a", time.Hour, time.Second), at("b", time.Hour, time.Millisecond)}, "b", 2},
		{"two that do not: the nearer", []Sample{at("a", 0, time.Second), at("b", time.Hour, time.Minute)}, "a", 1},
		{"a liar is outvoted, however near", []Sample{at("liar", -time.Hour, 0), at("a", time.Hour, time.Second), at("b", time.Hour+time.Second, time.Second)}, "a", 2},
		{"one with a wide claim agrees with everybody", []Sample{at("wide", 0, 2*time.Hour), at("a", time.Hour, time.Second), at("liar", time.Minute, time.Millisecond)}, "liar", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, agreed := choose(tt.samples)
			if got.Server != tt.want || agreed != tt.agreed {
				t.Errorf("got %s of %d, want %s of %d", got.Server, agreed, tt.want, tt.agreed)
			}
		})
	}
}

// As long as most servers tell the truth, the choice is true.
func TestAMajorityOfTruthWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(t, "truth"))
		var samples []Sample
		honest := rapid.IntRange(1, 5).Draw(t, "honest")
		for range honest {
			distance := time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "distance"))
			off := time.Duration(rapid.Int64Range(-int64(distance), int64(distance)).Draw(t, "off"))
			samples = append(samples, Sample{Offset: truth + off, Distance: distance})
		}
		for range rapid.IntRange(0, honest-1).Draw(t, "liars") {
			lie := time.Duration(rapid.Int64Range(1e10, 1e18).Draw(t, "lie"))
			samples = append(samples, Sample{Offset: truth - lie, Distance: time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "claim"))})
		}
		samples = rapid.Permutation(samples).Draw(t, "order")
		best, agreed := choose(samples)
		if agreed < honest || (best.Offset-truth).Abs() > best.Distance {
			t.Fatalf("%d agree on %v ± %v; the truth is %v, and %d tell it", agreed, best.Offset, best.Distance, truth, honest)
		}
	})
}
