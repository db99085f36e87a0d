package order

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWaves(t *testing.T) {
	got, err := Waves(map[string][]string{
		"mount /srv/a":   {"dm a"},
		"mount /srv/b":   {"mount /srv/a", "loop0"},
		"loop0":          {"mount /srv/a"},
		"dm a":           {"disk vda"},
		"dm top":         {"dm b"},
		"dm b":           {"disk vdb"},
		"mount /srv/a/x": {"mount /srv/a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"dm top", "mount /srv/a/x", "mount /srv/b"},
		{"dm b", "loop0"},
		{"mount /srv/a"},
		{"dm a"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}

func TestACycleIsNamedAndComesLast(t *testing.T) {
	got, err := Waves(map[string][]string{"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": nil})
	var c *Cycle
	if !errors.As(err, &c) {
		t.Fatalf("got %v, want *Cycle", err)
	}
	if diff := cmp.Diff([][]string{{"c", "d"}, {"a", "b"}}, got); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}

func TestNothingGoesBeforeItsHolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "nodes")
		below := map[string][]string{}
		for i := range n {
			var list []string
			if i > 0 {
				// Only earlier nodes: no cycle.
				for _, j := range rapid.SliceOfN(rapid.IntRange(0, i-1), 0, 4).Draw(t, "below") {
					list = append(list, fmt.Sprint(j))
				}
			}
			below[fmt.Sprint(i)] = append(list, "disk")
		}
		waves, err := Waves(below)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for w, names := range waves {
			for _, name := range names {
				if _, twice := at[name]; twice {
					t.Fatalf("%s comes twice", name)
				}
				at[name] = w
			}
		}
		if len(at) != n {
			t.Fatalf("%d of %d nodes come", len(at), n)
		}
		for name, list := range below {
			for _, b := range list {
				if w, ok := at[b]; ok && w <= at[name] {
					t.Fatalf("%s goes in wave %d, its holder %s in wave %d", b, w, name, at[name])
				}
			}
		}
	})
}
