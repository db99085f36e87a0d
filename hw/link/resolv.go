package link

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
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

// Scoped gives link-local servers, as routers like to name themselves, the interface that they are on: without it nobody
// can ask them (RFC 4007, 11).
func Scoped(servers []netip.Addr, link string) []netip.Addr {
	list := slices.Clone(servers)
	for i, a := range list {
		if a.Is6() && a.IsLinkLocalUnicast() {
			list[i] = a.WithZone(link)
		}
	}
	return list
}

// WriteResolv writes resolv.conf at path, atomically.
func WriteResolv(path string, servers, search []string) error {
	if err := renameio.WriteFile(path, []byte(Resolv(servers, search)), 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
