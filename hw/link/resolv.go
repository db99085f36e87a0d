package link

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// maxServers is how many name servers a C library asks (MAXNS, resolv.conf(5)); the others would only seem to be used.
const maxServers = 3

// Resolv is the text of resolv.conf(5).
func Resolv(servers, search []string) string {
	var b strings.Builder
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for i, s := range servers {
		if i == maxServers {
			fmt.Fprintf(&b, "# more than %d are not asked:\n", maxServers)
		}
		if i >= maxServers {
			b.WriteString("# ")
		}
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
}

// WriteResolv writes resolv.conf at path, atomically.
func WriteResolv(path string, servers, search []string) error {
	if err := renameio.WriteFile(path, []byte(Resolv(servers, search)), 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
