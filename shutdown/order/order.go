// Package order turns a graph of what stands on what into waves that can be
// taken down in parallel.
//
// It is pure: names in, names out. It never knows what a node is.
package order

import (
	"fmt"
	"slices"
	"strings"
)

// Cycle is the error of a graph in which some nodes stand on themselves.
type Cycle struct{ Nodes []string }

func (e *Cycle) Error() string {
	return fmt.Sprintf("these stand on each other: %s", strings.Join(e.Nodes, ", "))
}

// Waves orders the nodes of below, which maps each node to what it stands on.
// Every node comes in exactly one wave, after everything that stands on it;
// within a wave names are sorted. What a node stands on without being a key
// itself is left out: it is not to be taken down. Nodes of a cycle come in a
// last wave of their own, with a *Cycle beside.
func Waves(below map[string][]string) ([][]string, error) {
	holders := map[string]int{}
	for n, list := range below {
		holders[n] += 0
		for _, b := range unique(list) {
			if _, ok := below[b]; ok {
				holders[b]++
			}
		}
	}
	var waves [][]string
	var wave []string
	for n, c := range holders {
		if c == 0 {
			wave = append(wave, n)
		}
	}
	done := 0
	for len(wave) > 0 {
		slices.Sort(wave)
		waves = append(waves, wave)
		done += len(wave)
		var next []string
		for _, n := range wave {
			for _, b := range unique(below[n]) {
				if _, ok := below[b]; !ok {
					continue
				}
				if holders[b]--; holders[b] == 0 {
					next = append(next, b)
				}
			}
		}
		wave = next
	}
	if done == len(below) {
		return waves, nil
	}
	var rest []string
	for n, c := range holders {
		if c > 0 {
			rest = append(rest, n)
		}
	}
	slices.Sort(rest)
	return append(waves, rest), &Cycle{Nodes: rest}
}

func unique(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
