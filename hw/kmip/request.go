package kmip

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"initd/hw/secret"
)

// Request asks for one key.
type Request struct {
	// ID is what people and the caller call the key; unique within a call. Empty means the selector's text.
	ID string `json:"id,omitempty"`
	// Selector says which object it is.
	Selector Selector `json:"selector"`
	// Group of servers that hold it; empty is the default group.
	Group string `json:"group,omitempty"`
	// Versions is how many matches are wanted, newest first, where a key is rotated: 2 gives the newest and the
	// one before it. 0 and 1 mean exactly one match; more matches are an error then.
	Versions int `json:"versions,omitempty"`
}

// Selector finds an object. UniqueID stands alone; the others all have to match.
type Selector struct {
	UniqueID string `json:"uniqueId,omitempty"`
	Name     string `json:"name,omitempty"`
	// ObjectGroup is the KMIP attribute, not a group of servers.
	ObjectGroup string `json:"objectGroup,omitempty"`
	// Attributes are custom text attributes ("x-Serial": "…").
	Attributes map[string]string `json:"attributes,omitempty"`
	// ObjectType restricts the match: SecretData, SymmetricKey or OpaqueObject; empty takes any of them.
	ObjectType string `json:"objectType,omitempty"`
}

// String names the selector for people.
func (s Selector) String() string {
	if s.UniqueID != "" {
		return s.UniqueID
	}
	var parts []string
	if s.Name != "" {
		parts = append(parts, s.Name)
	}
	if s.ObjectGroup != "" {
		parts = append(parts, "group "+s.ObjectGroup)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Attributes)) {
		parts = append(parts, k+"="+s.Attributes[k])
	}
	return strings.Join(parts, ", ")
}

func (r Request) name() string {
	if r.ID != "" {
		return r.ID
	}
	return r.Selector.String()
}

// Validate checks a request by itself.
func (r Request) Validate() error {
	s := r.Selector
	var errs []error
	located := s.Name != "" || s.ObjectGroup != "" || len(s.Attributes) > 0
	switch {
	case s.UniqueID == "" && !located:
		errs = append(errs, fmt.Errorf("key %q selects nothing: give a unique id, a name, an object group or attributes", r.name()))
	case s.UniqueID != "" && located:
		errs = append(errs, fmt.Errorf("key %q: a unique id stands alone: drop the other selectors", r.name()))
	}
	for k := range s.Attributes {
		if !strings.HasPrefix(k, "x-") && !strings.HasPrefix(k, "y-") {
			errs = append(errs, fmt.Errorf("key %q: attribute %q: names of custom attributes begin with \"x-\" (a client's) or \"y-\" (the server's)", r.name(), k))
		}
	}
	if s.ObjectType != "" {
		if _, err := parseObjectType(s.ObjectType); err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", r.name(), err))
		}
	}
	if r.Versions < 0 {
		errs = append(errs, fmt.Errorf("key %q: %d versions: must not be negative", r.name(), r.Versions))
	}
	return errors.Join(errs...)
}

// Result answers one Request.
type Result struct {
	// Request is the ID of the request.
	Request string `json:"request"`
	// Server and Address are who gave the key.
	Server  string `json:"server,omitempty"`
	Address string `json:"address,omitempty"`
	// Keys holds one key, or up to Request.Versions keys, newest first.
	Keys []Key `json:"keys,omitempty"`
	// Err is nil where Keys is not empty.
	Err *Error `json:"error,omitempty"`
}

// Key is a managed object that holds a key.
type Key struct {
	// Secret holds the key bytes; nil after a Lookup. The caller destroys it.
	Secret   *secret.Buffer `json:"-"`
	UniqueID string         `json:"uniqueId"`
	// ObjectType and State are the names of KMIP 1.4, sections 9.1.3.2.12 and 9.1.3.2.18.
	// An OpaqueObject has no state.
	ObjectType string `json:"objectType"`
	State      string `json:"state,omitempty"`
	// Initial is when the server got the object, as it says.
	Initial time.Time `json:"initial,omitzero"`
}
