package step

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"

	"initd/boot/plan"
	"initd/hw/link"
)

// LinkWatcher watches interfaces, addresses and routes, and answers whether
// there is a way to an endpoint: readiness for one consumer, not for 'the
// network'.
type LinkWatcher struct {
	Resolv string // resolv.conf, for endpoints with a name
}

// Classes of the resources that it answers for.
func (w *LinkWatcher) Classes() []string { return []string{plan.ClassLink, plan.ClassEndpoint} }

// Watch reads the state after every burst of changes.
func (w *LinkWatcher) Watch(ctx context.Context, interests <-chan []plan.Resource, post func([]plan.Fact)) error {
	states := make(chan *link.State)
	failed := make(chan error, 1)
	go func() {
		failed <- link.Watch(ctx, func(s *link.State) {
			select {
			case states <- s:
			case <-ctx.Done():
			}
		})
	}()
	var now *link.State
	t := &tracker{post: post, known: map[plan.Resource]plan.Fact{}}
	t.now = func(r plan.Resource) plan.Fact { return w.fact(now, r) }
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case list, ok := <-interests:
			if !ok {
				interests = nil
			}
			t.add(list)
		case now = <-states:
		}
		if now != nil {
			t.update()
		}
	}
}

func (w *LinkWatcher) fact(s *link.State, r plan.Resource) plan.Fact {
	f := plan.Fact{Resource: r}
	if r.Class() == plan.ClassLink {
		name, up := strings.CutPrefix(r.Name(), "up/")
		i, err := s.Find(matchOf(name))
		switch {
		case err != nil:
			f.Reason = err.Error()
			return f
		case up && !i.Up:
			f.Reason = i.Name + " is down"
			return f
		}
		f.Present, f.Generation, f.Attrs = true, uint64(i.Index), map[string]string{"name": i.Name}
		return f
	}
	host, _, err := net.SplitHostPort(r.Name())
	if err != nil {
		f.Reason = err.Error()
		return f
	}
	if a, err := netip.ParseAddr(host); err == nil {
		f.Present, f.Reason = s.Way(a)
		return f
	}
	f.Present, f.Reason = w.wayToName(s, host)
	return f
}

// wayToName: a name can be asked for where there is a way to a name server;
// where none is configured, /etc/hosts may still know it.
func (w *LinkWatcher) wayToName(s *link.State, host string) (bool, string) {
	servers := configuredServers(w.Resolv)
	if len(servers) == 0 {
		return true, ""
	}
	reason := ""
	for _, a := range servers {
		ok, why := s.Way(a)
		if ok {
			return true, ""
		}
		if reason == "" {
			reason = "no name server can be asked for " + host + ": " + why
		}
	}
	return false, reason
}

func configuredServers(path string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []netip.Addr
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "nameserver "); ok {
			if a, err := netip.ParseAddr(strings.TrimSpace(v)); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// matchOf undoes linkResource.
func matchOf(name string) link.Match {
	kind, value, ok := strings.Cut(name, "/")
	if !ok {
		return link.Match{Name: name}
	}
	switch kind {
	case "mac":
		return link.Match{MAC: value}
	case "path":
		return link.Match{Path: value}
	}
	return link.Match{Driver: value}
}
