//go:build race

package luks

import "errors"

// The race detector needs cgo, and with it a process has threads that Confine could not reach: it refuses.
func playConfined(string) error { return errors.New("this role is for programs without cgo") }
