// Package secrettest makes secrets for tests: of texts that everybody may know. It is for tests only.
package secrettest

import (
	"testing"

	"initd/hw/secret"
)

// Buffer holds a text until the test ends.
func Buffer(t testing.TB, text string) *secret.Buffer {
	t.Helper()
	b, err := secret.From([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Destroy)
	return b
}
