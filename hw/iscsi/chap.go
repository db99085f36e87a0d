package iscsi

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"slices"
	"strconv"
	"strings"

	"initd/hw/secret"
)

// CHAP algorithms (RFC 7143, 12.1.3; SHA1 and up from the IANA registry of iSCSI).
const (
	chapMD5     = 5
	chapSHA1    = 6
	chapSHA256  = 7
	chapSHA3256 = 8
)

// maxChallenge bounds challenges and responses, bytes (RFC 7143, 12.1.3).
const maxChallenge = 1024

// CHAP is who we are to a target, and who it is to us. The buffers stay the caller's, who destroys them after the login.
type CHAP struct {
	User   string
	Secret *secret.Buffer
	// Mutual is the target's secret: with it the target has to prove itself, and a login in which it does not fails.
	Mutual *secret.Buffer
	// MutualUser is the name that the target has to give; empty: any.
	MutualUser string
	// Algorithms that are offered, best first: sha256, sha3-256, sha1, md5 (default: all of these).
	Algorithms []string
}

// chapAlgorithms lists the names, best first; a list in a function, so that nobody changes it.
func chapAlgorithms() []string { return []string{"sha256", "sha3-256", "sha1", "md5"} }

func chapNumber(name string) int {
	switch name {
	case "sha256":
		return chapSHA256
	case "sha3-256":
		return chapSHA3256
	case "sha1":
		return chapSHA1
	case "md5":
		return chapMD5
	}
	return 0
}

func chapHash(algorithm int) hash.Hash {
	switch algorithm {
	case chapMD5:
		return md5.New()
	case chapSHA1:
		return sha1.New()
	case chapSHA256:
		return sha256.New()
	}
	return sha3.New256()
}

// AuthError says that one side did not prove to the other who it is.
type AuthError struct {
	// Target: it is the target whose proof is missing or wrong; else ours.
	Target bool
	Reason string
}

func (e *AuthError) Error() string { return "CHAP: " + e.Reason }

// Code is the stable code of this error.
func (e *AuthError) Code() string {
	if e.Target {
		return "ISCSI-MUTUAL"
	}
	return "ISCSI-AUTH"
}

// Hint says what to do.
func (e *AuthError) Hint() string {
	if e.Target {
		return "look at the mutual secret on both sides, and whether this is the target it says it is"
	}
	return "look at the user and the secret, and at the target's access list for this initiator name"
}

// check refuses what cannot work, before anything is sent.
func (c *CHAP) check() error {
	switch {
	case c.User == "" || len(c.User) > 255 || strings.IndexByte(c.User, 0) >= 0:
		return &SettingError{"CHAP user", "1 to 255 bytes, without NUL"}
	case c.Secret.Len() == 0:
		return &SettingError{"CHAP secret", "it is missing"}
	case c.Mutual.Len() > 0 && bytes.Equal(c.Mutual.Bytes(), c.Secret.Bytes()):
		// RFC 7143, 9.2.1: whoever can ask us for a response could then answer for the target.
		return &SettingError{"CHAP mutual secret", "it is the same as the secret of this side, so that anybody could answer with our own response; give each direction its own"}
	}
	for i, a := range c.Algorithms {
		if chapNumber(a) == 0 || slices.Contains(c.Algorithms[:i], a) {
			return &SettingError{"CHAP algorithms", strconv.Quote(a) + " is not one of sha256, sha3-256, sha1 and md5, each once"}
		}
	}
	return nil
}

// SafeSecret is the least length of a secret that cannot be guessed from a login that somebody hears, bytes (RFC 7143, 9.2.1: 96
// bits). Shorter ones work, for targets that have such.
const SafeSecret = 12

// Short tells whether a secret is shorter than that.
func (c *CHAP) Short() bool {
	return c.Secret.Len() < SafeSecret || c.Mutual.Len() > 0 && c.Mutual.Len() < SafeSecret
}

// chapExchange is one authentication.
type chapExchange struct {
	c         *CHAP
	offered   []int
	algorithm int
	ident     byte // of our own challenge
	challenge []byte
	response  []byte // ours
	random    func([]byte)
}

func newCHAPExchange(c *CHAP) *chapExchange {
	x := &chapExchange{c: c, random: func(b []byte) { rand.Read(b) }} // never fails
	names := c.Algorithms
	if len(names) == 0 {
		names = chapAlgorithms()
	}
	for _, n := range names {
		x.offered = append(x.offered, chapNumber(n))
	}
	return x
}

// first offers the algorithms.
func (x *chapExchange) first() pair {
	var list []string
	for _, a := range x.offered {
		list = append(list, strconv.Itoa(a))
	}
	return pair{keyCHAPAlgorithm, strings.Join(list, ",")}
}

// answer gives the response to the target's challenge, and our own challenge where the target has to prove itself.
func (x *chapExchange) answer(keys map[string]string) ([]pair, error) {
	algorithm := keys[keyCHAPAlgorithm]
	if algorithm == answerReject {
		return nil, &AuthError{Reason: "the target takes none of the algorithms " + x.first().value + " (5 MD5, 6 SHA1, 7 SHA256, 8 SHA3-256)"}
	}
	n, ok := number(algorithm, 1, 255)
	if !ok || !slices.Contains(x.offered, int(n)) {
		return nil, protocol("%s=%q, where %s was offered", keyCHAPAlgorithm, short(algorithm), x.first().value)
	}
	x.algorithm = int(n)
	ident, ok := number(keys[keyCHAPIdent], 0, 255)
	if !ok {
		return nil, protocol("%s=%q", keyCHAPIdent, short(keys[keyCHAPIdent]))
	}
	challenge, ok := binaryValue(keys[keyCHAPChallenge], maxChallenge)
	if !ok {
		return nil, protocol("%s is no challenge of 1 to %d bytes", keyCHAPChallenge, maxChallenge)
	}
	x.response = x.respond(byte(ident), x.c.Secret, challenge)
	list := []pair{{keyCHAPName, x.c.User}, {keyCHAPResponse, hexValue(x.response)}}
	if x.c.Mutual.Len() == 0 {
		return list, nil
	}
	// Ours differs from theirs in identifier and challenge: a response of ours is of no use as theirs.
	x.ident = byte(ident) + 1
	x.challenge = make([]byte, 32)
	for x.random(x.challenge); bytes.Equal(x.challenge, challenge); {
		x.random(x.challenge)
	}
	return append(list, pair{keyCHAPIdent, strconv.Itoa(int(x.ident))}, pair{keyCHAPChallenge, hexValue(x.challenge)}), nil
}

// verify checks the target's proof, where one was asked for: none is as bad as a wrong one.
func (x *chapExchange) verify(keys map[string]string) error {
	if x.c.Mutual.Len() == 0 {
		return nil
	}
	text, given := keys[keyCHAPResponse]
	if !given {
		return &AuthError{Target: true, Reason: "the target did not prove itself, though it was asked to"}
	}
	got, ok := binaryValue(text, maxChallenge)
	if !ok {
		return protocol("%s is no response", keyCHAPResponse)
	}
	if subtle.ConstantTimeCompare(got, x.response) == 1 {
		return &AuthError{Target: true, Reason: "the target answers with our own response: somebody reflects what we send"}
	}
	if subtle.ConstantTimeCompare(got, x.respond(x.ident, x.c.Mutual, x.challenge)) != 1 {
		return &AuthError{Target: true, Reason: "the target's response does not fit the mutual secret"}
	}
	if want := x.c.MutualUser; want != "" && keys[keyCHAPName] != want {
		return &AuthError{Target: true, Reason: "the target gives its name as " + strconv.Quote(short(keys[keyCHAPName])) + ", not " + strconv.Quote(want)}
	}
	return nil
}

// respond is the response of RFC 1994, 4.1.
func (x *chapExchange) respond(ident byte, s *secret.Buffer, challenge []byte) []byte {
	h := chapHash(x.algorithm)
	h.Write([]byte{ident})
	h.Write(s.Bytes())
	h.Write(challenge)
	return h.Sum(nil)
}

func hexValue(b []byte) string { return "0x" + hex.EncodeToString(b) }

// ErrNoCHAP says that a file of secrets holds none.
var ErrNoCHAP = errors.New("it names no user and no secret")
