package link

import (
	"fmt"
	"strings"

	"github.com/google/renameio/v2"
)

// Resolv is the text of resolv.conf(5).
func Resolv(servers, search []string) string {
	var b strings.Builder
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
}

// WriteResolv writes resolv.conf at path, atomically.
func WriteResolv(path string, servers, search []string) error {
	if err := renameio.WriteFile(path, []byte(Resolv(servers, search)), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
