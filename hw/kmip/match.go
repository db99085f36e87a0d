package kmip

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"
)

// object is what a server says about a managed object.
type object struct {
	id         string
	known      bool                          // its attributes were read
	err        *Error                        // why they could not be
	asked      map[kmipgo.AttributeName]bool // which of them; nil: all
	names      []string
	groups     []string
	custom     map[string][]string
	objectType kmipgo.ObjectType
	state      kmipgo.State
	initial    time.Time
	activation time.Time
}

// locateAttributes is what a Locate asks for. Without custom attributes it is
// the fallback for servers that refuse them.
func (sel Selector) locateAttributes(custom bool) []kmipgo.Attribute {
	var out []kmipgo.Attribute
	add := func(name kmipgo.AttributeName, v any) {
		out = append(out, kmipgo.Attribute{AttributeName: name, AttributeValue: v})
	}
	if sel.Name != "" {
		add(kmipgo.AttributeNameName, kmipgo.Name{NameValue: sel.Name, NameType: kmipgo.NameTypeUninterpretedTextString})
	}
	if sel.ObjectGroup != "" {
		add(kmipgo.AttributeNameObjectGroup, sel.ObjectGroup)
	}
	if t, err := parseObjectType(sel.ObjectType); err == nil {
		add(kmipgo.AttributeNameObjectType, t)
	}
	if custom {
		for _, k := range slices.Sorted(maps.Keys(sel.Attributes)) {
			add(kmipgo.AttributeName(k), sel.Attributes[k])
		}
	}
	return out
}

// attributeNames is what has to be known of a candidate to judge it.
func (sel Selector) attributeNames() []kmipgo.AttributeName {
	names := []kmipgo.AttributeName{kmipgo.AttributeNameObjectType, kmipgo.AttributeNameState, kmipgo.AttributeNameInitialDate, kmipgo.AttributeNameActivationDate}
	if sel.Name != "" {
		names = append(names, kmipgo.AttributeNameName)
	}
	if sel.ObjectGroup != "" {
		names = append(names, kmipgo.AttributeNameObjectGroup)
	}
	for _, k := range slices.Sorted(maps.Keys(sel.Attributes)) {
		names = append(names, kmipgo.AttributeName(k))
	}
	return names
}

func readObject(p *payloads.GetAttributesResponsePayload) *object {
	o := &object{id: p.UniqueIdentifier, known: true, custom: map[string][]string{}}
	for _, a := range p.Attribute {
		switch v := a.AttributeValue.(type) {
		case kmipgo.Name:
			o.names = append(o.names, v.NameValue)
		case kmipgo.ObjectType:
			o.objectType = v
		case kmipgo.State:
			o.state = v
		case time.Time:
			switch a.AttributeName {
			case kmipgo.AttributeNameInitialDate:
				o.initial = v
			case kmipgo.AttributeNameActivationDate:
				o.activation = v
			}
		case string:
			if a.AttributeName == kmipgo.AttributeNameObjectGroup {
				o.groups = append(o.groups, v)
			}
		case ttlv.Value:
			if text, ok := attributeText(v); ok {
				o.custom[string(a.AttributeName)] = append(o.custom[string(a.AttributeName)], text)
			}
		}
	}
	return o
}

// attributeText gives a custom attribute as it would be written in a selector.
func attributeText(v ttlv.Value) (string, bool) {
	switch v := v.Value.(type) {
	case string:
		return v, true
	case int32:
		return strconv.FormatInt(int64(v), 10), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// matches: a Locate may have ignored what it did not know, so every attribute
// is compared here.
func (sel Selector) matches(o *object) bool {
	if sel.UniqueID != "" {
		return o.id == sel.UniqueID
	}
	if !o.known || (sel.Name != "" && !slices.Contains(o.names, sel.Name)) || (sel.ObjectGroup != "" && !slices.Contains(o.groups, sel.ObjectGroup)) {
		return false
	}
	for k, want := range sel.Attributes {
		if !slices.Contains(o.custom[k], want) {
			return false
		}
	}
	return true
}

// choose picks the objects to get, newest first. It is pure: what the server
// said in, a decision out.
func choose(r Request, located []*object) ([]*object, *Error) {
	var matching, good, old []*object
	for _, o := range located {
		if r.Selector.matches(o) {
			matching = append(matching, o)
		}
	}
	if len(matching) == 0 {
		e := &Error{Code: CodeNotFound, Cause: fmt.Errorf("no object matches %s", r.Selector), Hint: "register the key on the server, or correct its name"}
		if len(located) > 0 {
			e.Cause = fmt.Errorf("the server offered %s, and none has the attributes asked for (%s)", countObjects(len(located)), r.Selector)
		}
		return nil, e
	}
	for _, o := range matching {
		switch {
		case usable(o.state):
			good = append(good, o)
		case o.state == kmipgo.StateDeactivated && r.Versions > 1:
			old = append(old, o)
		}
	}
	if len(good) == 0 {
		worst := matching[0]
		return nil, &Error{Code: CodeState, Cause: fmt.Errorf("%s (%s) is %s", r.Selector, shownID(worst.id), strings.ToLower(stateName(worst.state))), Hint: stateHint(worst.state)}
	}
	if err := checkTypes(r, good); err != nil {
		return nil, err
	}
	if r.Versions <= 1 {
		if len(good) > 1 {
			return nil, &Error{Code: CodeAmbiguous, Cause: fmt.Errorf("%s match %s, wanted is exactly one: %s", countObjects(len(good)), r.Selector, ids(good)), Hint: "select more narrowly, or deactivate the others"}
		}
		return good, nil
	}
	// Rotation leaves the key before the newest one deactivated on many servers, while a medium may not have
	// been told yet: it counts as an older version, never as the newest.
	return newest(r, good, old)
}

func checkTypes(r Request, objects []*object) *Error {
	for _, o := range objects {
		if o.objectType == 0 {
			continue // the answer to Get says it
		}
		if !slices.Contains(objectTypes(), o.objectType) || (r.Selector.ObjectType != "" && typeName(o.objectType) != r.Selector.ObjectType) {
			return wrongType(r.Selector, o.objectType)
		}
	}
	return nil
}

func newest(r Request, good, old []*object) ([]*object, *Error) {
	byAge := func(a, b *object) int {
		if c := b.initial.Compare(a.initial); c != 0 {
			return c
		}
		return b.activation.Compare(a.activation)
	}
	slices.SortStableFunc(good, byAge)
	slices.SortStableFunc(old, byAge)
	all := append(good, old...)
	slices.SortStableFunc(all[1:], byAge)
	take := all[:min(len(all), r.Versions)]
	for i := range take {
		if i+1 < len(all) && byAge(all[i], all[i+1]) == 0 && usable(all[i].state) == usable(all[i+1].state) {
			return nil, &Error{Code: CodeAmbiguous, Cause: fmt.Errorf("%s and %s are of the same age, so neither is the newer one", shownID(all[i].id), shownID(all[i+1].id)), Hint: "deactivate one of them"}
		}
	}
	return take, nil
}

func countObjects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

// shownID is an id for a message: as it is, unless a server chose one that is no word.
func shownID(id string) string {
	const long = 80
	if len(id) <= long && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return id
	}
	return fmt.Sprintf("%.*q", long, id)
}

func ids(objects []*object) string {
	const shown = 4
	s := ""
	for i, o := range objects {
		if i == shown {
			return s + ", …"
		}
		if i > 0 {
			s += ", "
		}
		s += shownID(o.id)
	}
	return s
}
