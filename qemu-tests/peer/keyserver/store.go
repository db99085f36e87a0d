package keyserver

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// What the store refuses; each protocol has its own number for it.
var (
	errNotFound     = errors.New("no such object")
	errDenied       = errors.New("this client may not have it")
	errInvalidField = errors.New("attribute is not known here")
	errUnsupported  = errors.New("operation is not supported here")
	errHangUp       = errors.New("the connection is closed")
)

// condition is one attribute of a Locate, as text; enumerations by their names.
type condition struct{ name, value string }

// store answers the questions of both protocols. It does not change.
type store struct {
	server  string
	rules   Behaviour
	objects []Object
	emit    func(Event)
}

func (s *store) tell(op, object string) {
	s.emit(Event{Event: "kmip", Op: op, Server: s.server, Object: object})
}

func (s *store) find(id string) (Object, error) {
	for _, o := range s.objects {
		if o.ID == id {
			return o, nil
		}
	}
	return Object{}, errNotFound
}

func custom(name string) bool { return strings.HasPrefix(name, "x-") }

// locate gives the ids of all objects that meet all conditions.
func (s *store) locate(conditions []condition) ([]string, error) {
	label := ""
	for _, c := range conditions {
		if custom(c.name) && s.rules.NoCustom {
			return nil, errInvalidField
		}
		if label == "" || c.name == "Name" {
			label = c.value
		}
	}
	s.tell("locate", label)
	var out []string
	for _, o := range s.objects {
		if !slices.ContainsFunc(conditions, func(c condition) bool { return !s.meets(o, c) }) {
			out = append(out, o.ID)
		}
	}
	return out, nil
}

func (s *store) meets(o Object, c condition) bool {
	switch {
	case c.name == "Name":
		return o.Name == c.value || o.LocateAs != "" && o.LocateAs == c.value
	case c.name == "Object Group":
		return o.Group == c.value
	case c.name == "Object Type":
		return o.typeName() == c.value
	case custom(c.name):
		return s.rules.IgnoreCustom || o.Attributes[c.name] == c.value
	}
	return false
}

// describe gives an object whose attributes were asked for by name; none means all.
func (s *store) describe(id string, names []string) (Object, []string, error) {
	if s.rules.NoAttributes {
		return Object{}, nil, errUnsupported
	}
	if s.rules.AllAttributes && len(names) > 0 {
		return Object{}, nil, errInvalidField
	}
	o, err := s.find(id)
	if err != nil {
		return o, nil, err
	}
	s.tell("attributes", o.label())
	if o.DescribeAs != "" {
		o.ID = o.DescribeAs
	}
	if len(names) == 0 {
		names = []string{"Name", "Object Type", "State", "Object Group", "Initial Date"}
		for k := range o.Attributes {
			names = append(names, k)
		}
		slices.Sort(names)
	}
	if s.rules.NoCustom {
		names = slices.DeleteFunc(slices.Clone(names), custom)
	}
	return o, names, nil
}

// get gives an object and its key.
func (s *store) get(id string) (Object, []byte, error) {
	o, err := s.find(id)
	if err != nil {
		return o, nil, err
	}
	s.tell("get", o.label())
	if o.HangUp {
		return o, nil, errHangUp
	}
	if o.Denied {
		return o, nil, errDenied
	}
	key, err := hex.DecodeString(o.Value)
	if o.GiveAs != "" {
		o.ID = o.GiveAs
	}
	return o, key, err
}

func (o Object) typeName() string {
	if o.Type == "" {
		return "SecretData"
	}
	return o.Type
}

// objectTypes are the numbers of KMIP 1.4, section 9.1.3.2.12.
func objectTypes() map[string]uint32 {
	return map[string]uint32{"Certificate": 1, "SymmetricKey": 2, "PublicKey": 3, "PrivateKey": 4, "SplitKey": 5, "SecretData": 7, "OpaqueObject": 8}
}

func (o Object) typeNumber() uint32 { return objectTypes()[o.typeName()] }

func typeByNumber(n uint32) string {
	for name, v := range objectTypes() {
		if v == n {
			return name
		}
	}
	return ""
}

// stateNumber is that of KMIP 1.4, section 9.1.3.2.18; an OpaqueObject has no state.
func (o Object) stateNumber() uint32 {
	if o.typeName() == "OpaqueObject" {
		return 0
	}
	states := map[string]uint32{"Pre-Active": 1, "": 2, "Active": 2, "Deactivated": 3, "Compromised": 4, "Destroyed": 5, "Destroyed Compromised": 6}
	return states[o.State]
}

// formatNumber is that of KMIP 1.4, section 9.1.3.2.3.
func (o Object) formatNumber() uint32 {
	formats := map[string]uint32{"": 1, "Raw": 1, "Opaque": 2, "PKCS8": 4, "TransparentSymmetricKey": 7}
	return formats[o.Format]
}
