package kmip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// group is one call's work with one group of servers.
type group struct {
	client    *Client
	name      string
	endpoints []*endpoint
	jobs      []*job
	how       how
	emit      Progress
	done      func(*job)
	told      map[*job]bool // jobs that done has heard of
	// last is the latest reason of each server that could not be talked to.
	last map[string]*Error
	// found is what each server said in this call.
	found map[string]*findings
}

// run ends when every job is done. Its shape: as long as some server has not
// had its say about some job, reach one of them and ask; pause when none can
// be reached.
func (g *group) run(ctx context.Context) {
	defer g.tell()
	if len(g.endpoints) == 0 {
		g.endAll(&Error{Code: CodeConfig, Cause: fmt.Errorf("no key server is in group %q", g.name), Hint: "give a server that group, or the key another one"})
		return
	}
	g.last, g.found = map[string]*Error{}, map[string]*findings{}
	backoff, rounds := g.client.transport.timing.Backoff, 0
	for {
		open := g.stillUseful()
		if len(open) == 0 {
			return
		}
		s := g.reach(ctx, open)
		if s != nil && g.talk(ctx, s) {
			backoff = g.client.transport.timing.Backoff
			continue
		}
		rounds++
		if s == nil { // a job with a final word from one server does not wait for the others to come up
			g.endAnswered()
			if g.inVain(open) && ctx.Err() == nil {
				g.endAll(g.unreachable(nil))
				return
			}
		}
		if len(g.stillUseful()) == 0 {
			return
		}
		if g.how.once && (s == nil || rounds > maxLost) {
			g.endAll(g.unreachable(nil))
			return
		}
		if err := g.pause(ctx, &backoff); err != nil {
			g.endAll(g.unreachable(err))
			return
		}
	}
}

// stillUseful are the servers that some open job has not heard from; jobs
// that heard from all are ended here.
func (g *group) stillUseful() []*endpoint {
	var out []*endpoint
	for _, j := range g.jobs {
		if j.done {
			continue
		}
		all := true
		for _, e := range g.endpoints {
			if j.open(e.server.Name) {
				all = false
				if !slices.Contains(out, e) {
					out = append(out, e)
				}
			}
		}
		if all {
			j.end(g.verdict(j))
		}
	}
	return out
}

// reach gives a session to one of the endpoints: an idle one, else the first
// that a staggered round of dials brings.
func (g *group) reach(ctx context.Context, endpoints []*endpoint) *session {
	if s := g.client.checkOut(endpoints); s != nil {
		return s
	}
	order := g.client.order(endpoints)
	starts := make([]time.Time, len(order))
	started := func(i int, after time.Duration) {
		starts[i] = time.Now()
		e := Event{Kind: Dialling, Server: order[i].server.Name, Address: order[i].server.Address}
		if i > 0 {
			e.Previous, e.After = order[i-1].server.Name, after
		}
		g.emit(e)
	}
	s, won, errs := race(ctx, len(order), g.client.transport.timing.Stagger, started, func(ctx context.Context, i int) (*session, error) {
		return g.dial(ctx, order[i])
	}, func(late *session) { late.close() })
	if won < 0 {
		g.note(ctx, order, errs)
		return nil
	}
	g.passed(order, starts, won)
	return s
}

// note keeps the reasons of a round that nobody won. What the end of ctx cut
// short says nothing about a server, so an earlier reason stands.
func (g *group) note(ctx context.Context, order []*endpoint, errs []error) {
	for i, err := range errs {
		e := order[i]
		failure := classify(err, e.id, time.Now())
		if ctx.Err() != nil && (failure.Code == CodeTimeout || failure.Code == CodeCancelled) {
			if g.last[e.server.Name] != nil {
				continue
			}
			failure = &Error{Code: CodeTimeout, Cause: errors.New("no answer before the time was over"), Retryable: true}
		}
		g.last[e.server.Name] = e.fail(e.server.Address, failure)
	}
}

// passed tells of servers that were still silent when a later one had
// answered, so that they are not first the next time.
func (g *group) passed(order []*endpoint, starts []time.Time, won int) {
	for i := range won {
		silent := time.Since(starts[i])
		if silent < g.client.transport.timing.Stagger || g.client.isDown(order[i]) {
			continue
		}
		err := order[i].fail(order[i].server.Address, &Error{
			Code:      CodeDial,
			Cause:     fmt.Errorf("no answer for %.1f s, %s answered first", silent.Seconds(), order[won].server.Name),
			Retryable: true,
		})
		g.last[err.Server] = err
		g.emit(Event{Kind: Failed, Server: err.Server, Address: err.Address, Error: err})
	}
}

func (g *group) dial(ctx context.Context, e *endpoint) (*session, error) {
	s, err := g.client.transport.connect(ctx, e)
	if err != nil {
		if ctx.Err() == nil {
			failure := classify(err, e.id, time.Now())
			g.emit(Event{Kind: Failed, Server: e.server.Name, Address: failure.Address, Error: failure})
		}
		return nil, err
	}
	s.limit = g.client.batchLimit(e.server.Name)
	s.accepted = s.limit
	g.emit(Event{Kind: Connected, Server: e.server.Name, Address: s.address, Detail: s.describe()})
	return s, nil
}

// talk asks a server about the open jobs. It reports whether that brought
// anything, a final refusal included.
func (g *group) talk(ctx context.Context, s *session) bool {
	name := s.endpoint.server.Name
	shrunk := false
	s.onShrink = func(limit int) {
		shrunk = true
		g.emit(Event{Kind: Shrunk, Server: name, Address: s.address, Batch: limit})
	}
	if f := g.found[name]; f == nil || time.Since(f.since) > findingsLife {
		g.found[name] = newFindings()
	}
	f := g.found[name]
	before, known, stale := g.openAt(name), f.size(), s.reused
	err := s.ask(ctx, g.jobs, f, g.how.get)
	stale = stale && s.reused // still unanswered: it had been closed while idle
	g.tell()
	answered := before - g.openAt(name)
	if answered > 0 {
		g.emit(Event{Kind: Answered, Server: name, Address: s.address, Found: g.foundBy(name), Missing: g.missingAt(name)})
	}
	if err == nil {
		delete(g.last, name)
		g.client.checkIn(s)
		return true
	}
	s.abort()
	if stale || ctx.Err() != nil {
		return true
	}
	failure := s.endpoint.fail(s.address, classify(err, s.endpoint.id, time.Now()))
	if errors.Is(err, errMessage) {
		if f.nonsense++; f.nonsense >= maxLost { // what babbles is no key server
			g.giveUp(name, failure)
			return true
		}
	}
	g.last[name] = failure
	g.emit(Event{Kind: Failed, Server: name, Address: s.address, Error: failure, Lost: true})
	return answered > 0 || shrunk || f.size() > known
}

// giveUp ends a server's say about every open job.
func (g *group) giveUp(server string, err *Error) {
	g.emit(Event{Kind: Failed, Server: server, Address: err.Address, Error: err, Lost: true})
	for _, j := range g.jobs {
		if j.open(server) {
			j.failed[server] = err.about("get key", j.request.name())
		}
	}
}

// tell hands over what is done, so that a key that is here waits for no other.
func (g *group) tell() {
	for _, j := range g.jobs {
		if j.done && !g.told[j] {
			g.told[j] = true
			g.done(j)
		}
	}
}

func (g *group) openAt(server string) int {
	n := 0
	for _, j := range g.jobs {
		if j.open(server) {
			n++
		}
	}
	return n
}

func (g *group) foundBy(server string) int {
	n := 0
	for _, j := range g.jobs {
		if j.done && j.result.Server == server {
			n++
		}
	}
	return n
}

func (g *group) missingAt(server string) int {
	n := 0
	for _, j := range g.jobs {
		if j.failed[server] != nil {
			n++
		}
	}
	return n
}

// pause waits before the next round and says why.
func (g *group) pause(ctx context.Context, backoff *time.Duration) error {
	wait := min(*backoff, g.client.transport.backoffMax())
	*backoff *= 2
	if *backoff > laterBackoffMax {
		*backoff = laterBackoffMax
	}
	if ctx.Err() == nil {
		g.emit(Event{Kind: Waiting, After: wait, Reasons: g.reasons()})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
