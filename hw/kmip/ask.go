package kmip

import (
	"context"
	"errors"
	"fmt"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"

	"initd/hw/secret"
)

const (
	// maxCandidates bounds how many located objects of one request are looked at.
	maxCandidates = 4096
	// chunk is how many requests go through locate, judge and get together.
	chunk = 64
)

// job is a request on its way to a result.
type job struct {
	request Request
	index   int
	done    bool
	result  Result
	// failed holds the final word of each server that had one.
	failed map[string]*Error
	// lost counts, for each server, the connections that ended at this job alone.
	lost map[string]*int
}

func newJob(i int, r Request) *job {
	return &job{request: r, index: i, failed: map[string]*Error{}, lost: map[string]*int{}}
}

func (j *job) open(server string) bool { return !j.done && j.failed[server] == nil }

func (j *job) lostAt(server string) *int {
	if j.lost[server] == nil {
		j.lost[server] = new(int)
	}
	return j.lost[server]
}

// findings are what one server said about the jobs of one call. They outlive a
// connection, so that a server that hangs up often still gets somewhere.
type findings struct {
	located map[*job][]string
	objects map[string]*object // by unique id
	since   time.Time
}

// findingsLife: after a long outage it is asked again.
const findingsLife = time.Minute

func newFindings() *findings {
	return &findings{located: map[*job][]string{}, objects: map[string]*object{}, since: time.Now()}
}

func (f *findings) size() int { return len(f.located) + len(f.objects) }

// asking is one conversation with one server about some jobs.
type asking struct {
	*session
	*findings
	// get is false for a look-up: everything but the key itself.
	get bool
}

// ask works on the jobs that this server has not answered yet. When it
// returns, each of them is done or failed at this server, unless it returns an
// error: then the connection is dead and the rest is still open.
func (s *session) ask(ctx context.Context, jobs []*job, f *findings, get bool) error {
	a := &asking{session: s, findings: f, get: get}
	name := s.endpoint.server.Name
	var open []*job
	for _, j := range jobs {
		if j.open(name) {
			open = append(open, j)
		}
	}
	for len(open) > 0 {
		n := min(chunk, len(open))
		if err := a.some(ctx, open[:n]); err != nil {
			return err
		}
		open = open[n:]
	}
	return nil
}

func (a *asking) fail(j *job, err *Error) {
	e := a.endpoint.fail(a.address, err)
	j.failed[a.endpoint.server.Name] = e.about("get key", j.request.name())
}

func (a *asking) some(ctx context.Context, jobs []*job) error {
	if err := a.locate(ctx, jobs); err != nil {
		return err
	}
	if err := a.describe(ctx, jobs); err != nil {
		return err
	}
	chosen := map[*job][]*object{}
	for _, j := range jobs {
		if !j.open(a.endpoint.server.Name) {
			continue
		}
		objects, err := a.judge(j, a.located[j])
		if err != nil {
			a.fail(j, err)
			continue
		}
		chosen[j] = objects
	}
	if !a.get {
		for j, objects := range chosen {
			a.finish(j, objects, nil)
		}
		return nil
	}
	return a.fetch(ctx, jobs, chosen)
}

// locate finds the unique ids that may be meant by each job.
func (a *asking) locate(ctx context.Context, jobs []*job) error {
	var open []*job
	for _, j := range jobs {
		if _, known := a.located[j]; known {
			continue
		}
		if id := j.request.Selector.UniqueID; id != "" {
			a.located[j] = []string{id}
			continue
		}
		open = append(open, j)
	}
	for _, custom := range []bool{true, false} {
		var calls []*call
		for _, j := range open {
			calls = append(calls, &call{request: &payloads.LocateRequestPayload{Attribute: j.request.Selector.locateAttributes(custom)}, lost: j.lostAt(a.endpoint.server.Name)})
		}
		err := a.exchange(ctx, calls)
		var again []*job
		for i, c := range calls {
			j := open[i]
			switch {
			case !c.done:
			case c.err == nil:
				a.located[j] = locatedIDs(c.answer)
			case custom && refusesCustom(j, c.err):
				again = append(again, j)
			case c.err.Code == CodeNotFound: // some servers say so instead of giving an empty list
				a.located[j] = nil
			default:
				a.fail(j, c.err)
			}
		}
		if err != nil {
			return err
		}
		open = again
	}
	return nil
}

// refusesCustom: a server without custom attributes may fail a Locate that
// names one. Where something else narrows the search down, it is done without.
func refusesCustom(j *job, err *Error) bool {
	sel := j.request.Selector
	return len(sel.Attributes) > 0 && (sel.Name != "" || sel.ObjectGroup != "") && (err.Code == CodeUnsupported || err.Code == CodeRefused)
}

func locatedIDs(answer kmipgo.OperationPayload) []string {
	p, ok := answer.(*payloads.LocateResponsePayload)
	if !ok {
		return nil
	}
	return p.UniqueIdentifier
}

// describe reads the attributes of all located objects, each once.
func (a *asking) describe(ctx context.Context, jobs []*job) error {
	var wanted []string
	var calls []*call
	lost := map[string]*int{}
	names := map[string][]kmipgo.AttributeName{}
	for _, j := range jobs { // in order, so that runs compare
		found := a.located[j]
		if len(found) > maxCandidates {
			a.fail(j, &Error{Code: CodeAmbiguous, Cause: fmt.Errorf("the server offers %d objects: it may have ignored what was asked for", len(found)), Hint: "select by unique id"})
			continue
		}
		for _, id := range found {
			if _, seen := a.objects[id]; seen && covers(a.objects[id], j.request.Selector) {
				continue
			}
			if names[id] == nil {
				wanted = append(wanted, id)
				lost[id] = j.lostAt(a.endpoint.server.Name)
			}
			names[id] = union(names[id], j.request.Selector.attributeNames())
		}
	}
	for _, id := range wanted {
		calls = append(calls, &call{request: &payloads.GetAttributesRequestPayload{UniqueIdentifier: id, AttributeName: names[id]}, lost: lost[id]})
	}
	defer func() {
		for i, c := range calls {
			if c.done {
				a.objects[wanted[i]] = described(wanted[i], c)
			}
		}
	}()
	if err := a.exchange(ctx, calls); err != nil {
		return err
	}
	// Some servers fail a request that names an attribute which they do not know: ask them for all.
	again := false
	for i, c := range calls {
		if c.err != nil && (c.err.Code == CodeUnsupported || c.err.Code == CodeRefused) {
			*c = call{request: &payloads.GetAttributesRequestPayload{UniqueIdentifier: wanted[i]}, lost: lost[wanted[i]]}
			again = true
		}
	}
	if !again {
		return nil
	}
	return a.exchange(ctx, calls)
}

// covers: an object that was described for one selector may lack what another one asks about.
func covers(o *object, sel Selector) bool {
	if o == nil || o.err != nil || o.asked == nil {
		return true
	}
	for _, n := range sel.attributeNames() {
		if !o.asked[n] {
			return false
		}
	}
	return true
}

func union(a, b []kmipgo.AttributeName) []kmipgo.AttributeName {
	for _, n := range b {
		found := false
		for _, m := range a {
			found = found || m == n
		}
		if !found {
			a = append(a, n)
		}
	}
	return a
}

func described(id string, c *call) *object {
	o := &object{id: id, err: c.err}
	if p, ok := c.answer.(*payloads.GetAttributesResponsePayload); ok && c.err == nil {
		if p.UniqueIdentifier != id {
			o.err = &Error{Code: CodeProtocol, Cause: fmt.Errorf("the server describes %q, asked for was %q", p.UniqueIdentifier, id)}
			return o
		}
		o = readObject(p)
	}
	if req, ok := c.request.(*payloads.GetAttributesRequestPayload); ok && len(req.AttributeName) > 0 {
		o.asked = map[kmipgo.AttributeName]bool{}
		for _, n := range req.AttributeName {
			o.asked[n] = true
		}
	}
	return o
}

// judge decides which objects to get for a job.
func (a *asking) judge(j *job, found []string) ([]*object, *Error) {
	var objects []*object
	for _, id := range found {
		o := a.objects[id]
		switch {
		case o == nil:
			continue
		case o.err == nil:
			objects = append(objects, o)
		case j.request.Selector.UniqueID != "" && (o.err.Code == CodeUnsupported || o.err.Code == CodeRefused || o.err.Code == CodeDenied):
			// A unique id needs no proof; the answer to Get says the type, and a server may refuse it for the state.
			objects = append(objects, o)
		case o.err.Code == CodeNotFound && j.request.Selector.UniqueID == "":
			continue // it went away between the two questions
		case len(found) == 1 || o.err.Code != CodeDenied:
			// What cannot be judged cannot be ruled out either.
			e := *o.err
			e.Cause = fmt.Errorf("attributes of %s: %w", id, o.err.Cause)
			return nil, &e
		}
	}
	return choose(j.request, objects)
}

// fetch gets the chosen objects.
func (a *asking) fetch(ctx context.Context, jobs []*job, chosen map[*job][]*object) error {
	var calls []*call
	byJob := map[*job][]*call{}
	for _, j := range jobs {
		for _, o := range chosen[j] {
			c := &call{request: &payloads.GetRequestPayload{UniqueIdentifier: o.id}, lost: j.lostAt(a.endpoint.server.Name)}
			calls = append(calls, c)
			byJob[j] = append(byJob[j], c)
		}
	}
	exchangeErr := a.exchange(ctx, calls)
	for _, j := range jobs {
		if mine := byJob[j]; len(mine) > 0 && allDone(mine) {
			a.finish(j, chosen[j], mine)
		}
	}
	for _, c := range calls {
		wipePayload(c.answer)
	}
	return exchangeErr
}

func allDone(calls []*call) bool {
	for _, c := range calls {
		if !c.done {
			return false
		}
	}
	return true
}

// finish makes the result of a job. Its newest key has to be good; older ones
// that cannot be had are left out.
func (a *asking) finish(j *job, objects []*object, gets []*call) {
	var keys []Key
	for i, o := range objects {
		key := Key{UniqueID: o.id, ObjectType: typeName(o.objectType), State: stateName(o.state), Initial: o.initial}
		if !a.get {
			if o.objectType == 0 {
				key.ObjectType = ""
			}
			keys = append(keys, key)
			continue
		}
		err := takeKey(&key, j.request.Selector, gets[i])
		if err != nil && i == 0 {
			a.fail(j, err)
			return
		}
		if err == nil {
			keys = append(keys, key)
		}
	}
	j.done = true
	j.result = Result{Request: j.request.name(), Server: a.endpoint.server.Name, Address: a.address, Keys: keys}
}

// takeKey moves the key bytes of a Get answer into a secret buffer.
func takeKey(key *Key, sel Selector, c *call) *Error {
	if c.err != nil {
		return c.err
	}
	p, ok := c.answer.(*payloads.GetResponsePayload)
	if !ok {
		return &Error{Code: CodeProtocol, Cause: errors.New("the answer to Get has no object")}
	}
	if p.UniqueIdentifier != key.UniqueID {
		return &Error{Code: CodeProtocol, Cause: fmt.Errorf("the server gave %q, asked for was %q", p.UniqueIdentifier, key.UniqueID)}
	}
	if sel.ObjectType != "" && typeName(p.ObjectType) != sel.ObjectType {
		return wrongType(p.ObjectType, sel.ObjectType)
	}
	raw, err := keyBytes(p)
	if err != nil {
		return err
	}
	key.ObjectType = typeName(p.ObjectType)
	buf, lockErr := secret.From(raw) // zeroes raw
	if lockErr != nil {
		return &Error{Code: CodeLocal, Cause: fmt.Errorf("keep the key: %w", lockErr)}
	}
	key.Secret = buf
	return nil
}
