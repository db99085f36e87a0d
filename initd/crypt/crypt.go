// Package crypt checks passwords against crypt(3) hashes of the kinds SHA-256
// ($5$) and SHA-512 ($6$), as openssl passwd -5 and -6 print them.
//
// It owns the algorithm (Ulrich Drepper, "Unix crypt using SHA-256 and
// SHA-512", version 0.6). It never keeps a password: call it in a process that
// ends afterwards.
package crypt

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// ErrWrong says that the password is another one.
var ErrWrong = errors.New("that is not the password")

// Rounds: the default, and what an author of a hash may ask for (section
// "rounds" of the specification); the upper bound is ours.
const (
	defaultRounds = 5000
	minRounds     = 1000
	maxRounds     = 10_000_000
	maxSalt       = 16
)

// kind is one of the two algorithms.
type kind struct {
	new   func() hash.Hash
	order []byte // in which the digest's bytes are encoded, three at a time
	tail  []byte // the last ones
}

func kindOf(id string) (kind, bool) {
	switch id {
	case "5":
		return kind{sha256.New, []byte{
			0, 10, 20, 21, 1, 11, 12, 22, 2, 3, 13, 23, 24, 4, 14, 15, 25, 5, 6, 16, 26, 27, 7, 17, 18, 28, 8, 9, 19, 29,
		}, []byte{31, 30}}, true
	case "6":
		return kind{sha512.New, []byte{
			0, 21, 42, 22, 43, 1, 44, 2, 23, 3, 24, 45, 25, 46, 4, 47, 5, 26, 6, 27, 48, 28, 49, 7, 50, 8, 29, 9, 30, 51, 31,
			52, 10, 53, 11, 32, 12, 33, 54, 34, 55, 13, 56, 14, 35, 15, 36, 57, 37, 58, 16, 59, 17, 38, 18, 39, 60, 40, 61, 19, 62, 20, 41,
		}, []byte{63}}, true
	}
	return kind{}, false
}

// Check is nil if password has this hash, ErrWrong if it has not, and another
// error if the hash is of a kind that is not known here.
func Check(encoded string, password []byte) error {
	// $ID$[rounds=N$]SALT$DIGEST
	parts := strings.Split(encoded, "$")
	if len(parts) < 4 || parts[0] != "" {
		return errors.New("check a password: the hash has not the form of crypt(3)")
	}
	k, ok := kindOf(parts[1])
	if !ok {
		return fmt.Errorf("check a password: hashes of kind $%s$ are not known here; make one with: openssl passwd -6", parts[1])
	}
	rounds := defaultRounds
	rest := parts[2:]
	if n, ok := strings.CutPrefix(rest[0], "rounds="); ok {
		given, err := strconv.Atoi(n)
		if err != nil || given > maxRounds {
			return fmt.Errorf("check a password: the hash asks for %s rounds, want at most %d", n, maxRounds)
		}
		rounds, rest = max(given, minRounds), rest[1:]
	}
	if len(rest) != 2 {
		return errors.New("check a password: the hash has not the form of crypt(3)")
	}
	salt := rest[0][:min(len(rest[0]), maxSalt)]
	if subtle.ConstantTimeCompare([]byte(k.digest(password, []byte(salt), rounds)), []byte(rest[1])) != 1 {
		return ErrWrong
	}
	return nil
}

// digest follows the specification's steps by their numbers.
func (k kind) digest(key, salt []byte, rounds int) string {
	b := k.sum(key, salt, key) // 4-8
	a := k.new()               // 1-3
	a.Write(key)
	a.Write(salt)
	repeat(a, b, len(key))              // 9, 10
	for n := len(key); n > 0; n >>= 1 { // 11
		if n&1 != 0 {
			a.Write(b)
		} else {
			a.Write(key)
		}
	}
	alt := a.Sum(nil) // 12
	dp := k.new()     // 13-15
	for range key {
		dp.Write(key)
	}
	p := stretch(dp.Sum(nil), len(key)) // 16
	ds := k.new()                       // 17-19
	for range 16 + int(alt[0]) {
		ds.Write(salt)
	}
	s := stretch(ds.Sum(nil), len(salt)) // 20
	for i := range rounds {              // 21
		c := k.new()
		odd := i&1 != 0
		c.Write(pick(odd, p, alt))
		if i%3 != 0 {
			c.Write(s)
		}
		if i%7 != 0 {
			c.Write(p)
		}
		c.Write(pick(odd, alt, p))
		alt = c.Sum(alt[:0])
	}
	clear(p)
	return k.encode(alt) // 22
}

func pick(first bool, a, b []byte) []byte {
	if first {
		return a
	}
	return b
}

func (k kind) sum(parts ...[]byte) []byte {
	h := k.new()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// repeat writes b again and again, n bytes in all.
func repeat(h hash.Hash, b []byte, n int) {
	for ; n > len(b); n -= len(b) {
		h.Write(b)
	}
	h.Write(b[:n])
}

// stretch is b again and again, n bytes in all.
func stretch(b []byte, n int) []byte {
	out := make([]byte, 0, n)
	for len(out) < n {
		out = append(out, b[:min(len(b), n-len(out))]...)
	}
	return out
}

// alphabet is that of crypt(3), six bits a letter, the lowest first.
const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (k kind) encode(d []byte) string {
	var out []byte
	put := func(v uint32, letters int) {
		for range letters {
			out = append(out, alphabet[v&0x3f])
			v >>= 6
		}
	}
	for i := 0; i < len(k.order); i += 3 {
		put(uint32(d[k.order[i]])<<16|uint32(d[k.order[i+1]])<<8|uint32(d[k.order[i+2]]), 4)
	}
	switch len(k.tail) {
	case 1:
		put(uint32(d[k.tail[0]]), 2)
	case 2:
		put(uint32(d[k.tail[0]])<<8|uint32(d[k.tail[1]]), 3)
	}
	return string(out)
}
