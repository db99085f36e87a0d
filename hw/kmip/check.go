package kmip

import (
	"context"
	"errors"
	"sync"
	"time"
)

// CheckReport says whether the keys of a configuration could be had from here.
// It holds no key: keys are looked up, not fetched.
type CheckReport struct {
	// At is when the check began, by this machine's clock.
	At      time.Time      `json:"at"`
	Servers []ServerReport `json:"servers"`
	Keys    []KeyReport    `json:"keys"`
}

// KeyReport is one request, asked of every server of its group.
type KeyReport struct {
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
	Found bool   `json:"found"`
	// Places are the servers that have it.
	Places []Place `json:"places,omitempty"`
	// Errors are what the other servers of the group said, or why they could not be asked.
	Errors []*Error `json:"errors,omitempty"`
}

// Place is where a key was found.
type Place struct {
	Server string `json:"server"`
	// Keys describes the matches: one, or the versions asked for.
	Keys []Key `json:"keys"`
}

// OK tells whether every key was found somewhere.
func (r CheckReport) OK() bool {
	for _, k := range r.Keys {
		if !k.Found {
			return false
		}
	}
	return true
}

// Check probes every server and looks every key up on each server of its
// group, all servers at once, once. Until ctx ends; what was not heard by then
// is an error in the report. The error is that cfg is not valid.
func Check(ctx context.Context, cfg Config, requests []Request) (CheckReport, error) {
	c, err := New(cfg)
	if err != nil {
		return CheckReport{}, err
	}
	defer c.Close()
	r := CheckReport{At: time.Now(), Servers: make([]ServerReport, len(c.endpoints))}
	for _, q := range requests {
		if err := q.Validate(); err != nil {
			return CheckReport{}, &Error{Code: CodeConfig, Op: "check keys", Cause: err}
		}
	}
	said := make([][]Result, len(c.endpoints))
	var wg sync.WaitGroup
	for i, e := range c.endpoints {
		wg.Go(func() {
			r.Servers[i] = c.probe(ctx, e)
			said[i] = c.lookupAt(ctx, e, requests, r.Servers[i].Err)
		})
	}
	wg.Wait()
	for i, q := range requests {
		r.Keys = append(r.Keys, keyReport(c, q, i, said))
	}
	return r, nil
}

func keyReport(c *Client, q Request, i int, said [][]Result) KeyReport {
	k := KeyReport{Name: q.name(), Group: q.Group}
	for at, e := range c.endpoints {
		if e.server.Group != q.Group {
			continue
		}
		switch res := said[at][i]; {
		case res.Err != nil:
			k.Errors = append(k.Errors, res.Err)
		default:
			k.Found = true
			k.Places = append(k.Places, Place{Server: e.server.Name, Keys: res.Keys})
		}
	}
	if len(k.Places)+len(k.Errors) == 0 {
		k.Errors = []*Error{{Code: CodeConfig, Op: "get key", Object: q.name(), Cause: errors.New("no key server is in its group"), Hint: "give a server that group, or the key another one"}}
	}
	return k
}

// lookupAt looks all requests of a server's group up on that server alone.
func (c *Client) lookupAt(ctx context.Context, e *endpoint, requests []Request, failed *Error) []Result {
	out := make([]Result, len(requests))
	var mine []*job
	for i, q := range requests {
		if q.Group == e.server.Group {
			mine = append(mine, newJob(i, q))
		}
	}
	if failed == nil {
		g := &group{client: c, endpoints: []*endpoint{e}, jobs: mine, how: how{once: true}, emit: c.emitter(nil, nil), done: func(*job) {}, told: map[*job]bool{}}
		g.run(ctx)
	}
	for _, j := range mine {
		if failed != nil {
			j.end(failed)
		}
		out[j.index] = j.result
	}
	return out
}
