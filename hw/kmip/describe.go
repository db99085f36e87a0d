package kmip

import (
	"context"
	"fmt"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

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
			o.err = somebodyElses(p.UniqueIdentifier, id)
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
