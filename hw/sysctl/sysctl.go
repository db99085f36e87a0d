// Package sysctl reads and sets kernel parameters below /proc/sys.
//
// It owns the names of parameters (sysctl(8)) and the comparison of values. It
// needs procfs, and CAP_SYS_ADMIN or CAP_NET_ADMIN to set anything. It never
// guesses: a parameter that this kernel does not have is an error.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// UnknownError is a parameter that this kernel does not have.
type UnknownError struct{ Key string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("sysctl %s: this kernel has no such parameter", e.Key)
}

// Code is the stable code of this error.
func (*UnknownError) Code() string { return "SYSCTL-UNKNOWN" }

// Object is what the report names.
func (e *UnknownError) Object() string { return e.Key }

// Hint says what to do.
func (*UnknownError) Hint() string {
	return "mind the spelling; a parameter of a module appears with its module"
}

// Path is the file of a parameter relative to /proc/sys. As for sysctl(8), the
// first separator decides: in a name with dots, a slash stands for a dot of
// an interface's name (net.ipv4.conf.eth0/1.forwarding), and the other way round.
func Path(key string) (string, error) {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		key = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	if !fs.ValidPath(key) || key == "." || !strings.Contains(key, "/") {
		return "", fmt.Errorf("%q is no name of a kernel parameter: write it as sysctl(8) does, such as vm.swappiness", key)
	}
	return key, nil
}

// Read returns the value of a parameter, with its white space as one space.
func Read(sys *os.Root, key string) (string, error) {
	p, err := Path(key)
	if err != nil {
		return "", err
	}
	b, err := sys.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &UnknownError{Key: key}
	}
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", key, err)
	}
	return Normal(string(b)), nil
}

// Write sets a parameter with one write(2), as the kernel wants it.
func Write(sys *os.Root, key, value string) error {
	p, err := Path(key)
	if err != nil {
		return err
	}
	f, err := sys.OpenFile(p, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &UnknownError{Key: key}
	}
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("sysctl %s: the kernel does not take %q: %w", key, value, err)
	}
	return nil
}

// Normal makes every run of white space one space: the kernel separates by
// tabs what people separate by spaces.
func Normal(value string) string { return strings.Join(strings.Fields(value), " ") }
