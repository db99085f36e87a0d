package kmip

import (
	"context"
	"fmt"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
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
	// nonsense counts answers that were no KMIP messages.
	nonsense int
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
	doubtful := a.judgeAll(jobs, chosen)
	if err := a.again(ctx, doubtful, len(jobs)); err != nil {
		return err
	}
	for _, j := range a.judgeAll(doubtful, chosen) {
		_, err := a.judge(j, a.located[j])
		a.fail(j, err)
	}
	if !a.get {
		for j, objects := range chosen {
			a.finish(j, objects, nil)
		}
		return nil
	}
	return a.fetch(ctx, jobs, chosen)
}

// judgeAll adds the objects to get to chosen. It gives back the jobs for which the server offered only objects that they
// do not mean; those that failed for another reason it fails.
func (a *asking) judgeAll(jobs []*job, chosen map[*job][]*object) (doubtful []*job) {
	for _, j := range jobs {
		if !j.open(a.endpoint.server.Name) {
			continue
		}
		switch objects, err := a.judge(j, a.located[j]); {
		case err == nil:
			chosen[j] = objects
		case err.Code == CodeNotFound && len(a.located[j]) > 0 && j.request.Selector.UniqueID == "":
			doubtful = append(doubtful, j)
		default:
			a.fail(j, err)
		}
	}
	return doubtful
}

// again locates jobs one by one: nothing in an answer to Locate ties it to its question, so in a message of several the
// server may have mixed them up.
func (a *asking) again(ctx context.Context, jobs []*job, asked int) error {
	if len(jobs) == 0 || asked < 2 {
		return nil
	}
	for _, j := range jobs {
		delete(a.located, j)
	}
	limit := a.limit
	a.limit = 1
	defer func() { a.limit = min(limit, a.accepted) }()
	if err := a.locate(ctx, jobs); err != nil {
		return err
	}
	return a.describe(ctx, jobs)
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
	// An object that is listed twice is one object; without an id, a request means whatever was asked about before it
	// (KMIP 1.4, section 4, ID Placeholder).
	var ids []string
	seen := map[string]bool{"": true}
	for _, id := range p.UniqueIdentifier {
		if !seen[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	return ids
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
			e.Cause = fmt.Errorf("attributes of %s: %w", shownID(id), o.err.Cause)
			return nil, &e
		}
	}
	return choose(j.request, objects)
}
