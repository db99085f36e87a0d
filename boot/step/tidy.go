package step

import (
	"os"
	"path/filepath"
	"regexp"
)

// bundlePrefix begins the name of a support bundle (initd/bundle).
const bundlePrefix = "support-"

// temporary is how renameio names a file until it is whole: a dot, the name to
// be, and a random number of 63 bits.
var temporary = regexp.MustCompile(`^\.(.+?)([0-9]{1,19})$`)

// TidyTemporary removes from dir the temporary files of writers that were
// killed before their rename: regular files, of the names that ours accepts
// (nil: all). Nobody may be writing there. What cannot be removed stays: it
// costs space and nothing else.
func TidyTemporary(dir string, ours func(name string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		m := temporary.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() || ours != nil && !ours(m[1]) {
			continue
		}
		_ = os.Remove(filepath.Join(dir, e.Name()))
	}
}
