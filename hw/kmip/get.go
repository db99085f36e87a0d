package kmip

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovh/kmip-go/payloads"

	"initd/hw/secret"
)

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
		return somebodyElses(p.UniqueIdentifier, key.UniqueID)
	}
	if sel.ObjectType != "" && typeName(p.ObjectType) != sel.ObjectType {
		return wrongType(sel, p.ObjectType)
	}
	raw, err := keyBytes(sel, p)
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
