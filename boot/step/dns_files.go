package step

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"initd/hw/link"
)

// nameServerFiles merges what each link knows about name servers into one
// resolv.conf. Each source has a file of its own, so that a successor forgets
// nothing before it has heard of it again.
type nameServerFiles struct {
	folder, resolv string
	own            bool // the appliance names its name servers: those of links are ignored
	note           func(string)

	mu sync.Mutex
}

// serverSource is what one source says.
type serverSource struct {
	Link     string   `json:"link"`
	From     string   `json:"from"` // "file", "dhcp4", "dhcp6", "router"
	Priority int      `json:"priority,omitempty"`
	Order    int      `json:"order"`
	Servers  []string `json:"servers,omitempty"`
	Search   []string `json:"search,omitempty"`
	// Ends is when each entry of a router does, by CLOCK_BOOTTIME.
	Ends map[string]time.Duration `json:"ends,omitempty"`
}

func (d *Deps) nameServers() *nameServerFiles {
	return &nameServerFiles{folder: filepath.Join(d.Paths.Run, "dns"), resolv: d.Paths.Resolv, own: d.OwnDNS, note: d.Note}
}

// set replaces what a source of a link says.
func (n *nameServerFiles) set(s linkSpec, from string, servers, search []string) {
	if n.own || from != "file" && s.DNS != nil && s.DNS.Ignore {
		return
	}
	n.write(n.entry(s, from, servers, search))
}

func (n *nameServerFiles) entry(s linkSpec, from string, servers, search []string) serverSource {
	e := serverSource{Link: s.Name, From: from, Order: s.Order, Servers: servers, Search: search}
	if s.DNS != nil {
		e.Priority = s.DNS.Priority
	}
	return e
}

func (n *nameServerFiles) write(e serverSource) {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := filepath.Join(n.folder, e.From+"-"+e.Link+".json")
	b, err := json.Marshal(e)
	if err == nil {
		err = os.MkdirAll(n.folder, 0o755)
	}
	if err == nil {
		err = renameio.WriteFile(file, b, 0o644)
	}
	if err == nil {
		err = n.merge()
	}
	if err != nil {
		n.note(fmt.Sprintf("link %s: its name servers are not used: %v", e.Link, err))
	}
}

// router adds what a router says to what routers said before; what they take
// back, or did not repeat in time, goes (RFC 8106, 5.3.1). next is when the
// first of it ends, if nobody repeats it; 0 for never.
func (n *nameServerFiles) router(s linkSpec, d link.RouterDNS) (next time.Duration) {
	if n.own || s.DNS != nil && s.DNS.Ignore {
		return 0
	}
	e := n.entry(s, "router", nil, nil)
	var old serverSource
	if b, err := os.ReadFile(filepath.Join(n.folder, e.From+"-"+e.Link+".json")); err == nil {
		_ = json.Unmarshal(b, &old) // a torn file is as good as none
	}
	now := link.Boottime()
	e.Ends = map[string]time.Duration{}
	said := map[string]bool{}
	for _, x := range append(texts(d.Servers), d.Search...) {
		said[x] = true
		if d.Lifetime > 0 {
			e.Ends[x] = now + d.Lifetime
		}
	}
	keep := func(list []string) []string {
		return slices.DeleteFunc(list, func(x string) bool {
			if !said[x] && old.Ends[x] > now {
				e.Ends[x] = old.Ends[x]
			}
			return e.Ends[x] == 0
		})
	}
	add := func(list, more []string) []string {
		for _, x := range more {
			if !slices.Contains(list, x) {
				list = append(list, x)
			}
		}
		return keep(list)
	}
	e.Servers, e.Search = add(old.Servers, texts(d.Servers)), add(old.Search, d.Search)
	if len(old.Ends)+len(e.Ends) > 0 {
		n.write(e)
	}
	for _, end := range e.Ends {
		if next == 0 || end-now < next {
			next = end - now
		}
	}
	return next
}

// merge writes resolv.conf of all that is known. If nobody names a server, it
// takes back what it wrote itself; somebody else may have written the file.
func (n *nameServerFiles) merge() error {
	files, err := filepath.Glob(filepath.Join(n.folder, "*.json"))
	if err != nil {
		return err
	}
	var all []serverSource
	for _, f := range files {
		var e serverSource
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &e) == nil {
			all = append(all, e)
		}
	}
	servers, search := mergeSources(all)
	last := filepath.Join(n.folder, "resolv.conf")
	if len(servers) == 0 && !sameFile(last, n.resolv) {
		return nil
	}
	if err := link.WriteResolv(last, servers, search); err != nil {
		return err
	}
	return link.WriteResolv(n.resolv, servers, search)
}

// sameFile tells whether two files are there and say the same.
func sameFile(a, b string) bool {
	one, err1 := os.ReadFile(a)
	other, err2 := os.ReadFile(b)
	return err1 == nil && err2 == nil && bytes.Equal(one, other)
}

// mergeSources orders sources: by the priority of their link, then by its
// place in the file; within a link the file's own, then by DHCP, then from
// routers.
func mergeSources(all []serverSource) (servers, search []string) {
	from := []string{"file", "dhcp4", "dhcp6", "router"}
	slices.SortFunc(all, func(a, b serverSource) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Order, b.Order), strings.Compare(a.Link, b.Link),
			cmp.Compare(slices.Index(from, a.From), slices.Index(from, b.From)))
	})
	for _, e := range all {
		for _, s := range e.Servers {
			if !slices.Contains(servers, s) {
				servers = append(servers, s)
			}
		}
		for _, s := range e.Search {
			if !slices.Contains(search, s) {
				search = append(search, s)
			}
		}
	}
	return servers, search
}
