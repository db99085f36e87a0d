package iscsi

import (
	"bytes"
	"fmt"
	"io"

	"initd/hw/secret"
)

// maxCHAPFile bounds a file of secrets, bytes.
const maxCHAPFile = 16 << 10

// ReadCHAP reads who we are to a target from lines of the form KEY=VALUE:
//
//	user=store-07
//	secret=…
//	mutual-user=vm-disks
//	mutual-secret=…
//	algorithms=sha256,md5
//
// The first two have to be there. Empty lines and lines that begin with # do not count; a value is what stands behind the
// first =, blanks at both ends aside. Whoever calls destroys the buffers. No error shows a value.
func ReadCHAP(r io.Reader) (*CHAP, error) {
	whole, err := secret.Read(r, maxCHAPFile)
	if err != nil {
		return nil, err
	}
	defer whole.Destroy()
	c := &CHAP{}
	n := 0
	seen := map[string]bool{}
	for line := range bytes.SplitSeq(whole.Bytes(), []byte{'\n'}) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, value, ok := bytes.Cut(line, []byte{'='})
		name := string(bytes.TrimSpace(key))
		value = bytes.TrimSpace(value)
		switch {
		case !ok:
			err = fmt.Errorf("line %d: it has no =; write KEY=VALUE", n)
		case seen[name]:
			err = fmt.Errorf("line %d: %s stands there twice", n, name)
		default:
			err = c.set(n, name, value)
		}
		if err != nil {
			c.Destroy()
			return nil, err
		}
		seen[name] = true
	}
	switch {
	case !seen["user"] && !seen["secret"]:
		err = ErrNoCHAP
	case !seen["user"]:
		err = fmt.Errorf("it names no user; add user=NAME")
	case !seen["secret"]:
		err = fmt.Errorf("it holds no secret; add secret=SECRET")
	case seen["mutual-user"] && !seen["mutual-secret"]:
		err = fmt.Errorf("it names a mutual user and no mutual secret; add mutual-secret=SECRET")
	default:
		err = c.check()
	}
	if err != nil {
		c.Destroy()
		return nil, err
	}
	return c, nil
}

func (c *CHAP) set(line int, name string, value []byte) error {
	if len(value) == 0 {
		return fmt.Errorf("line %d: %s is empty", line, name)
	}
	var err error
	switch name {
	case "user":
		c.User = string(value)
	case "mutual-user":
		c.MutualUser = string(value)
	case "secret":
		c.Secret, err = secret.Copy(value)
	case "mutual-secret":
		c.Mutual, err = secret.Copy(value)
	case "algorithms":
		for a := range bytes.SplitSeq(value, []byte{','}) {
			c.Algorithms = append(c.Algorithms, string(bytes.TrimSpace(a)))
		}
	default: // not shown: it may be half of a secret
		return fmt.Errorf("line %d: it begins with none of user, secret, mutual-user, mutual-secret and algorithms", line)
	}
	return err
}

// Destroy wipes the secrets.
func (c *CHAP) Destroy() {
	if c != nil {
		c.Secret.Destroy()
		c.Mutual.Destroy()
	}
}
