package iscsi

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
)

// pair is one key of a text and its value (RFC 7143, 6.1).
type pair struct{ key, value string }

func encodeText(list []pair) []byte {
	var b bytes.Buffer
	for _, p := range list {
		b.WriteString(p.key)
		b.WriteByte('=')
		b.WriteString(p.value)
		b.WriteByte(0)
	}
	return b.Bytes()
}

// parseText reads at most limit pairs. A NUL too many, and a last one that is missing, are forgiven: targets in the
// field do both. The error is a *ProtocolError.
func parseText(b []byte, limit int) ([]pair, error) {
	var list []pair
	for part := range bytes.SplitSeq(b, []byte{0}) {
		if len(part) == 0 {
			continue
		}
		if len(list) == limit {
			return nil, protocol("a text of more than %d keys", limit)
		}
		key, value, ok := bytes.Cut(part, []byte{'='})
		if !ok || !isKey(key) {
			return nil, protocol("%q in a text is no key with a value", short(string(part)))
		}
		list = append(list, pair{string(key), string(value)})
	}
	return list, nil
}

// isKey: letters, digits, and . - + @ _ (RFC 7143, 6.1).
func isKey(b []byte) bool {
	if len(b) == 0 || len(b) > maxKey {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte(".-+@_", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// short keeps what a target said within a line.
func short(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// number reads a decimal or hexadecimal constant (RFC 7143, 6.1).
func number(s string, low, high uint64) (uint64, bool) {
	base := 10
	if rest, ok := cutFold(s, "0x"); ok {
		s, base = rest, 16
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil && n >= low && n <= high && s[0] != '+'
}

// binaryValue reads 0x…, 0b… or a decimal number of 1 to limit bytes.
func binaryValue(s string, limit int) ([]byte, bool) {
	if len(s) > 4*limit+2 {
		return nil, false
	}
	var b []byte
	var err error
	if rest, ok := cutFold(s, "0x"); ok {
		if len(rest)%2 == 1 {
			rest = "0" + rest
		}
		b, err = hex.DecodeString(rest)
	} else if rest, ok := cutFold(s, "0b"); ok {
		b, err = base64.StdEncoding.DecodeString(rest)
	} else {
		n, ok := new(big.Int).SetString(s, 10)
		if !ok || n.Sign() < 0 || s[0] == '+' {
			return nil, false
		}
		b = n.Bytes()
	}
	return b, err == nil && len(b) > 0 && len(b) <= limit
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}
