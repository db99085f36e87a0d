package step

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"initd/boot/plan"
	"initd/hw/link"
)

// LinkWatcher watches interfaces, addresses and routes, and answers whether
// there is a way to an endpoint: readiness for one consumer, not for 'the
// network'.
type LinkWatcher struct {
	Resolv string     // resolv.conf, for endpoints with a name
	Plan   *plan.Plan // whose links are known by their names there; may be nil

	links []linkSpec
	alone map[int]time.Time // bonds without a partner, since when
}

// Classes of the resources that it answers for.
func (w *LinkWatcher) Classes() []string { return []string{plan.ClassLink, plan.ClassEndpoint} }

// Watch reads the state after every burst of changes.
func (w *LinkWatcher) Watch(ctx context.Context, interests <-chan []plan.Resource, post func([]plan.Fact)) error {
	if err := w.readPlan(); err != nil {
		return err
	}
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
	w.alone = map[int]time.Time{}
	patience := time.NewTimer(partnerPatience)
	defer patience.Stop()
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
		case <-patience.C:
		}
		if now != nil {
			if next := w.know(now); next > 0 {
				patience.Reset(next)
			}
			t.update()
		}
	}
}

func (w *LinkWatcher) readPlan() error {
	w.links = nil
	if w.Plan == nil {
		return nil
	}
	for i := range w.Plan.Units {
		if u := &w.Plan.Units[i]; u.Kind == "link" {
			s, err := spec[linkSpec](u)
			if err != nil {
				return err
			}
			w.links = append(w.links, s)
		}
	}
	return nil
}

// know adds to the state what the plan knows and the kernel does not: which
// addresses are asked for, and whose partner has been waited for long enough.
// The next look is due after the time that it returns, if that is not 0.
func (w *LinkWatcher) know(s *link.State) (next time.Duration) {
	s.Expected, s.Alone = nil, nil
	for _, l := range w.links {
		i, err := l.which(s)
		if err != nil {
			continue
		}
		expect := func(is bool, ipv4 bool, protocol string) {
			if is {
				s.Expected = append(s.Expected, link.Expected{Index: i.Index, IPv4: ipv4, Name: l.Name, Protocol: protocol})
			}
		}
		expect(l.DHCP4, true, "by DHCP")
		expect(l.DHCP6, false, "by DHCPv6")
		expect(l.RA, false, "from a router")
	}
	missing := map[int]bool{}
	for _, i := range s.Interfaces {
		if !i.PartnerMissing() {
			continue
		}
		missing[i.Index] = true
		if w.alone[i.Index].IsZero() {
			w.alone[i.Index] = time.Now()
		}
		left := partnerPatience - time.Since(w.alone[i.Index])
		if left <= 0 {
			s.Alone = append(s.Alone, i.Index)
		} else if next == 0 || left < next {
			next = left
		}
	}
	maps.DeleteFunc(w.alone, func(index int, _ time.Time) bool { return !missing[index] })
	return next
}

// over is the kernel's name of a link of the plan, and the name itself where
// it is none.
func (w *LinkWatcher) over(s *link.State, name string) (string, error) {
	for _, l := range w.links {
		if l.Name == name {
			i, err := l.which(s)
			return i.Name, err
		}
	}
	return name, nil
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
	f.Present, f.Reason = w.way(s, r)
	return f
}

// way answers for endpoint/HOST:PORT, and endpoint/LINK@ADDRESS/HOST:PORT, of
// which either may be missing (plan.EndpointOver).
func (w *LinkWatcher) way(s *link.State, r plan.Resource) (bool, string) {
	name, over := r.Name(), ""
	var from netip.Addr
	if i := strings.LastIndex(name, "/"); i >= 0 {
		l, address, given := strings.Cut(name[:i], "@")
		if given {
			var err error
			if from, err = netip.ParseAddr(address); err != nil {
				return false, err.Error()
			}
		}
		name = name[i+1:]
		if l != "" {
			var err error
			if over, err = w.over(s, l); err != nil {
				return false, fmt.Sprintf("link %s: %v", l, err)
			}
		}
	}
	host, _, err := net.SplitHostPort(name)
	if err != nil {
		return false, err.Error()
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if over == "" {
			over = a.Zone()
		}
		return s.WayFrom(a, from, over)
	}
	return w.wayToName(s, host)
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
