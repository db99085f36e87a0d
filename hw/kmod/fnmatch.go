package kmod

import "strings"

// wild tells whether a pattern holds anything but literal bytes.
func wild(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// fnmatch matches as fnmatch(3) with no flags does: * and ? also match a slash, [...] may hold ranges and begin with !
// or ^, a backslash takes the next byte literally. A pattern that is no pattern (an open bracket) is taken literally
// from there. The time is bounded by len(pattern) times len(s): only the last star is ever tried again.
func fnmatch(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, mark = p, i
				p++
				continue
			}
			if n, ok := matchOne(pattern[p:], s[i]); ok {
				p += n
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches the first element of pattern, which is not a star, against c; n is the element's length.
func matchOne(pattern string, c byte) (n int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
		return 1, c == '\\'
	case '[':
		if n, ok := matchBracket(pattern, c); n > 0 {
			return n, ok
		}
	}
	return 1, pattern[0] == c
}

// matchBracket matches [...]; n is 0 where the bracket is never closed.
func matchBracket(pattern string, c byte) (n int, ok bool) {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	for first := true; i < len(pattern); first = false {
		lo := pattern[i]
		if lo == ']' && !first {
			return i + 1, ok != negate
		}
		if lo == '\\' && i+1 < len(pattern) {
			i++
			lo = pattern[i]
		}
		i++
		hi := lo
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			i++
			if pattern[i] == '\\' && i+1 < len(pattern) {
				i++
			}
			hi = pattern[i]
			i++
		}
		ok = ok || lo <= c && c <= hi
	}
	return 0, false
}
