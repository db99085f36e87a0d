package iscsitest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// auth is where an authentication has come to.
type auth struct {
	begun bool
	done  bool
	algo  string
}

// login answers one login request.
func (c *conversation) login(r Request) error {
	var h [48]byte
	h[0] = 0x23
	copy(h[8:14], r.Header[8:14])
	copy(h[16:20], r.Header[16:20])
	stage, transit, next := r.Header[1]>>2&3, r.Header[1]&0x80 != 0, r.Header[1]&3
	h[1] = stage << 2
	if c.script.WrongISID {
		h[8] ^= 0xff
	}
	if c.script.Stage != 0 {
		h[1] = c.script.Stage << 2
	}
	if c.script.Redirect != "" {
		h[36], h[37] = 1, 1
		if c.script.Permanent {
			h[37] = 2
		}
		return c.write(h, []byte("TargetAddress="+c.script.Redirect+"\x00"))
	}
	if s := c.script.Status; s != 0 {
		h[36], h[37] = byte(s>>8), byte(s)
		return c.write(h, nil)
	}
	keys := map[string]string{}
	var order []string
	for _, p := range strings.Split(r.Text, "\x00") {
		if k, v, ok := strings.Cut(p, "="); ok {
			keys[k] = v
			order = append(order, k)
		}
	}
	var text string
	agree := false
	if stage == 0 {
		var err error
		if text, agree, err = c.security(keys); err != nil {
			h[36], h[37] = 2, 1
			return c.write(h, nil)
		}
	} else {
		text, agree = c.operational(keys, order)
	}
	if transit && agree {
		h[1] |= 0x80 | next
		if next == 3 && !c.script.NoTSIH {
			h[15] = 1
		}
	}
	if err := c.parts(h, text); err != nil {
		return err
	}
	if h[1]&0x83 == 0x83 {
		c.crc = c.digests(text)
	}
	return nil
}

// digests: this server does both or neither.
func (c *conversation) digests(text string) bool {
	return strings.Contains(text, "HeaderDigest=CRC32C\x00")
}

// parts sends a text, in as many PDUs as the script wants.
func (c *conversation) parts(h [48]byte, text string) error {
	for c.script.Split > 0 && len(text) > c.script.Split {
		part := h
		part[1] = h[1]&0x0c | 0x40
		if err := c.write(part, []byte(text[:c.script.Split])); err != nil {
			return err
		}
		text = text[c.script.Split:]
		r, err := c.read()
		if err != nil {
			return err
		}
		if r.Text != "" || r.Header[1]&0xc0 != 0 {
			return fmt.Errorf("half a text got the answer %q", r.Text)
		}
	}
	return c.write(h, []byte(text))
}

func (c *conversation) operational(keys map[string]string, order []string) (text string, agree bool) {
	var b strings.Builder
	for _, k := range order {
		v := keys[k]
		switch {
		case c.script.Replace[k] != "":
			v = c.script.Replace[k]
		case k == "HeaderDigest" || k == "DataDigest":
			v, _, _ = strings.Cut(v, ",")
		case k == "MaxRecvDataSegmentLength":
			v = "65536"
		case k == "InitialR2T":
			v = "Yes"
		}
		if v != "-" && !c.told {
			b.WriteString(k + "=" + v + "\x00")
		}
	}
	if c.script.Propose != "" && !c.told {
		c.told = true
		return b.String() + c.script.Propose, false
	}
	return b.String() + c.script.Extra, true
}

func (c *conversation) security(keys map[string]string) (text string, agree bool, err error) {
	s := c.script.CHAP
	if s == nil {
		return "TargetPortalGroupTag=1\x00AuthMethod=None\x00", true, nil
	}
	switch {
	case !c.auth.begun:
		c.auth.begun = true
		if !strings.Contains(","+keys["AuthMethod"]+",", ",CHAP,") {
			return "", false, fmt.Errorf("no CHAP in %q", keys["AuthMethod"])
		}
		return "AuthMethod=CHAP\x00", false, nil
	case c.auth.algo == "":
		c.auth.algo, _, _ = strings.Cut(keys["CHAP_A"], ",")
		if s.Algorithm != "" {
			c.auth.algo = s.Algorithm
		}
		return "CHAP_A=" + c.auth.algo + "\x00CHAP_I=200\x00CHAP_C=" + c.challenge() + "\x00", false, nil
	case !c.auth.done:
		c.auth.done = true
		return c.prove(keys)
	}
	return "", true, nil
}

func (c *conversation) challenge() string {
	if c.script.CHAP.Challenge != "" {
		return c.script.CHAP.Challenge
	}
	return "0x000102030405060708090a0b0c0d0e0f"
}

// prove checks the initiator's response, and gives the target's.
func (c *conversation) prove(keys map[string]string) (string, bool, error) {
	s := c.script.CHAP
	challenge, err := hex.DecodeString(strings.TrimPrefix(c.challenge(), "0x"))
	if err != nil {
		return "", false, err
	}
	got, err := hex.DecodeString(strings.TrimPrefix(keys["CHAP_R"], "0x"))
	if err != nil || keys["CHAP_N"] != s.User || !bytes.Equal(got, c.respond(200, s.Secret, challenge)) {
		return "", false, fmt.Errorf("the response of %q is wrong", keys["CHAP_N"])
	}
	ask, wanted := keys["CHAP_C"]
	if !wanted || s.NoProof {
		return "", true, nil
	}
	if ask == c.challenge() || keys["CHAP_I"] == "200" {
		return "", false, fmt.Errorf("the initiator's challenge is our own")
	}
	theirs, err := hex.DecodeString(strings.TrimPrefix(ask, "0x"))
	ident, err2 := strconv.Atoi(keys["CHAP_I"])
	if err != nil || err2 != nil {
		return "", false, fmt.Errorf("challenge %q", ask)
	}
	secret := s.MutualSecret
	if s.WrongProof {
		secret += "x"
	}
	proof := c.respond(byte(ident), secret, theirs)
	if s.Reflect {
		proof = got
	}
	return "CHAP_N=" + s.MutualUser + "\x00CHAP_R=0x" + hex.EncodeToString(proof) + "\x00", true, nil
}

func (c *conversation) respond(ident byte, secret string, challenge []byte) []byte {
	b := append([]byte{ident}, append([]byte(secret), challenge...)...)
	switch c.auth.algo {
	case "5":
		s := md5.Sum(b)
		return s[:]
	case "6":
		s := sha1.Sum(b)
		return s[:]
	case "7":
		s := sha256.Sum256(b)
		return s[:]
	}
	s := sha3.Sum256(b)
	return s[:]
}
