package appliance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a file, and what to do about it.
type Problem struct {
	Pos     Pos    `json:"-"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path,omitempty"` // "mounts[0].where"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // "did you mean …"
}

func (p Problem) String() string {
	s := p.Message
	if p.Pos.File != "" {
		s = p.Pos.String() + ": " + s
	}
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// Problems is an error that carries everything that is wrong, in the order of
// the files. Beyond what anybody reads they are only counted.
type Problems struct {
	List []Problem
	More int
}

const (
	maxProblems = 1000
	maxHints    = 100
)

// Many tells that there are so many that hints which cost something are not worth it any more.
func (e *Problems) Many() bool { return len(e.List) >= maxHints }

func (e *Problems) Error() string {
	var lines []string
	for _, p := range e.List {
		lines = append(lines, p.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

// Add appends one problem.
func (e *Problems) Add(pos Pos, path, hint, format string, args ...any) {
	if len(e.List) >= maxProblems {
		e.More++
		return
	}
	e.List = append(e.List, Problem{
		Pos: pos, File: pos.File, Line: pos.Line, Column: pos.Col,
		Path: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// Err returns e sorted by position without repetitions, or nil if it is empty.
func (e *Problems) Err() error {
	if len(e.List) == 0 {
		return nil
	}
	slices.SortStableFunc(e.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	e.List = slices.Compact(e.List)
	return e
}

// Join makes one list, in order, of what several steps found; nil if that is
// nothing. An error that is no *Problems is returned alone.
func Join(errs ...error) error {
	all := &Problems{}
	for _, err := range errs {
		var p *Problems
		switch {
		case err == nil:
		case errors.As(err, &p):
			all.List, all.More = append(all.List, p.List...), all.More+p.More
		default:
			return err
		}
	}
	return all.Err()
}

// Suggest returns "did you mean X?" for the nearest of the known words, or "".
func Suggest(word string, known []string) string {
	if best := Nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// Nearest is the known word that word is probably meant to be, or "".
func Nearest(word string, known []string) string {
	best, bestD := "", 3
	switch {
	case len(word) < 5:
		bestD = 2
	case len(word) > 8:
		bestD = 4
	}
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < bestD && d < len(word) {
			best, bestD = k, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance (adjacent swaps count one).
func distance(a, b string) int {
	prev2 := []int(nil)
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, cur
	}
	return prev[len(b)]
}
