package kmip

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Client talks to the servers of one Config. It keeps an idle connection to
// each server it used, and remembers which servers are healthy. It may be used
// from several goroutines; Close ends it.
type Client struct {
	transport transport
	endpoints []*endpoint
	config    Config

	mu     sync.Mutex
	health Health              // guarded by mu
	idle   map[string]*session // guarded by mu; a session is out of it while in use
	closed bool                // guarded by mu
}

// Option changes how a Client reaches the network.
type Option func(*Client)

// WithDial replaces how TCP connections are made.
func WithDial(d DialFunc) Option { return func(c *Client) { c.transport.dial = d } }

// WithResolve replaces how names are looked up.
func WithResolve(r ResolveFunc) Option { return func(c *Client) { c.transport.resolve = r } }

// New reads the certificates and keys of cfg. It does not dial. A server whose
// certificates cannot be used is kept, and fails with CodeConfig when it is
// its turn; an error means that cfg itself is not valid.
func New(cfg Config, opts ...Option) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &Error{Code: CodeConfig, Op: "configure key servers", Cause: err}
	}
	c := &Client{
		config: cfg,
		health: cfg.Health.clone(),
		idle:   map[string]*session{},
		transport: transport{
			timing:  cfg.Timing.withDefaults(),
			batch:   cfg.Batch,
			dial:    (&net.Dialer{}).DialContext,
			resolve: net.DefaultResolver.LookupNetIP,
			started: time.Now(),
		},
	}
	if c.transport.batch == 0 {
		c.transport.batch = DefaultBatch
	}
	for _, s := range cfg.Servers {
		e := &endpoint{server: s}
		e.id, e.err = loadIdentity(s)
		c.endpoints = append(c.endpoints, e)
	}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Close closes idle connections; those in use close when their call ends.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for name, s := range c.idle {
		s.close()
		delete(c.idle, name)
	}
}

// Health is what the client knows of its servers by now.
func (c *Client) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health.clone()
}

// Done hears of each result as soon as it is final: i is the index of its
// request. The keys are its own from then on. Of one call, Done and Progress
// are never called at the same time.
type Done func(i int, r Result)

// Fetch gets the keys of all requests, in their order. It keeps trying until
// each request has a key, or a final word from every server that could be
// reached, or ctx ends. Fetch the pure function is the same for one call.
func (c *Client) Fetch(ctx context.Context, requests []Request, progress Progress) []Result {
	results := make([]Result, len(requests))
	c.FetchEach(ctx, requests, progress, func(i int, r Result) { results[i] = r })
	return results
}

// FetchEach is Fetch for callers that want each key as soon as it is here: a
// key that is still awaited holds no other one up.
func (c *Client) FetchEach(ctx context.Context, requests []Request, progress Progress, done Done) {
	c.run(ctx, requests, progress, how{get: true}, done)
}

// Lookup does all that Fetch does but get the keys: what is found, where, of
// which type and state. It makes one round instead of waiting for servers.
func (c *Client) Lookup(ctx context.Context, requests []Request, progress Progress) []Result {
	results := make([]Result, len(requests))
	c.run(ctx, requests, progress, how{once: true}, func(i int, r Result) { results[i] = r })
	return results
}

// Fetch makes a Client, fetches all requests with it and closes it. Results
// are in the order of the requests. It is a function of its arguments and the
// network, for child processes: Config, Request, Result and Event are data.
func Fetch(ctx context.Context, cfg Config, requests []Request, progress Progress) []Result {
	results := make([]Result, len(requests))
	FetchEach(ctx, cfg, requests, progress, func(i int, r Result) { results[i] = r })
	return results
}

// FetchEach is Fetch that hands each result over as soon as it is final.
func FetchEach(ctx context.Context, cfg Config, requests []Request, progress Progress, done Done) {
	c, err := New(cfg)
	if err != nil {
		for i, r := range failAll(requests, err) {
			done(i, r)
		}
		return
	}
	defer c.Close()
	c.FetchEach(ctx, requests, progress, done)
}

func failAll(requests []Request, err error) []Result {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Code: CodeConfig, Cause: err}
	}
	out := make([]Result, len(requests))
	for i, r := range requests {
		out[i] = Result{Request: r.name(), Err: e.about("get key", r.name())}
	}
	return out
}

// how says what a call does with the objects it finds, and how patient it is.
type how struct {
	get  bool
	once bool // one round over the servers
}

func (c *Client) run(ctx context.Context, requests []Request, progress Progress, h how, done Done) {
	var one sync.Mutex // callers hear one thing at a time
	emit := c.emitter(progress, &one)
	jobs := make([]*job, len(requests))
	groups := map[string][]*job{}
	hear := func(j *job) {
		one.Lock()
		defer one.Unlock()
		done(j.index, j.result)
	}
	for i, r := range requests {
		jobs[i] = newJob(i, r)
		if err := r.Validate(); err != nil {
			jobs[i].end(&Error{Code: CodeConfig, Cause: err})
			hear(jobs[i])
			continue
		}
		groups[r.Group] = append(groups[r.Group], jobs[i])
	}
	var wg sync.WaitGroup
	for name, members := range groups {
		g := &group{client: c, name: name, jobs: members, how: h, emit: emit, done: hear, told: map[*job]bool{}}
		for _, e := range c.endpoints {
			if e.server.Group == name {
				g.endpoints = append(g.endpoints, e)
			}
		}
		wg.Go(func() { g.run(ctx) })
	}
	wg.Wait()
}

// end gives a job its final error.
func (j *job) end(err *Error) {
	j.done = true
	e := err.about("get key", j.request.name())
	e.Retryable = e.Retryable || curable(e.Code)
	j.result = Result{Request: j.request.name(), Err: e}
}

// emitter passes events on one at a time, and learns from them itself.
func (c *Client) emitter(progress Progress, one *sync.Mutex) Progress {
	return func(e Event) {
		c.mu.Lock()
		c.health.Observe(e)
		c.mu.Unlock()
		if progress != nil {
			one.Lock()
			defer one.Unlock()
			progress(e)
		}
	}
}

func (c *Client) order(endpoints []*endpoint) []*endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health.order(endpoints)
}

func (c *Client) isDown(e *endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health[e.server.Name].Down
}

// batchLimit is how many requests a server takes in a message, as far as known.
func (c *Client) batchLimit(server string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.health[server].Batch; b > 0 {
		return min(b, c.transport.batch)
	}
	return c.transport.batch
}

// checkOut takes an idle session to one of the endpoints.
func (c *Client) checkOut(endpoints []*endpoint) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.idle {
		if slices.Contains(endpoints, s.endpoint) {
			delete(c.idle, name)
			s.reused = true
			return s
		}
	}
	return nil
}

// checkIn keeps a session for the next call, if there is no other already.
func (c *Client) checkIn(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := s.endpoint.server.Name
	if c.closed || c.idle[name] != nil {
		s.close()
		return
	}
	c.idle[name] = s
}
