package appliance

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// JSONSchema returns the schema of the file, from the Go types, as indented
// JSON for editors.
func JSONSchema() ([]byte, error) {
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		LookupComment:              docOf,
		Mapper:                     schemaOf,
	}
	s := r.Reflect(&Appliance{})
	s.Title = "initd appliance"
	require(s, reflect.TypeFor[Appliance]())
	for name, def := range s.Definitions {
		for _, t := range sectionTypes() {
			if t.Name() == name {
				require(def, t)
			}
		}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(b, '\n'), nil
}

// docOf takes the description of a field from its doc tag.
func docOf(t reflect.Type, fieldName string) string {
	if t.Kind() != reflect.Struct {
		return ""
	}
	f, ok := t.FieldByName(fieldName)
	if !ok {
		return ""
	}
	return f.Tag.Get("doc")
}

// schemaOf describes the types that have more than one shape, or a textual one.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	text := func(pattern, example string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: []any{example}}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return text(`^([0-9.]+(ns|us|ms|s|m|h))+$`, "30s")
	case reflect.TypeFor[Mode]():
		return text(`^[0-7]{3,4}$`, "0644")
	case reflect.TypeFor[Limit]():
		return text(`^(never|([0-9.]+(ns|us|ms|s|m|h))+)$`, "never")
	case reflect.TypeFor[NVMePath]():
		return either(text(`^tcp://`, "tcp://192.0.2.40:4420"), &wayShape{}, "address")
	case reflect.TypeFor[ISCSIPortal]():
		return either(text(`^[^/ ]+$`, "192.0.2.50"), &wayShape{}, "address")
	case reflect.TypeFor[Port]():
		return either(text(`^[^/ :]{1,15}$`, "eth0"), &LinkMatch{})
	case reflect.TypeFor[OnFailure]():
		return text(`^(degrade|halt|reboot\([0-9]+\))$`, "degrade")
	case reflect.TypeFor[Shell]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Const: "never"}, object("password", &jsonschema.Schema{Type: "string"}),
		}}
	case reflect.TypeFor[KeySource]():
		r := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, DoNotReference: true, Anonymous: true, LookupComment: docOf}
		kmip := r.Reflect(&KMIPKey{})
		kmip.Version = ""
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Enum: []any{"kmip", "ephemeral", "prompt"}},
			object("kmip", kmip),
			object("file", &jsonschema.Schema{Type: "string"}),
			object("prompt", &jsonschema.Schema{Type: "string"}),
		}}
	}
	return nil
}

// either is a short form, or a mapping as long has it.
func either(short *jsonschema.Schema, long any, required ...string) *jsonschema.Schema {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", DoNotReference: true, Anonymous: true, LookupComment: docOf}
	s := r.Reflect(long)
	s.Version, s.Required = "", required
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{short, s}}
}

func object(key string, value *jsonschema.Schema) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), Required: []string{key}, AdditionalProperties: jsonschema.FalseSchema}
	s.Properties.Set(key, value)
	return s
}

// require marks the keys with want:"required".
func require(s *jsonschema.Schema, t reflect.Type) {
	s.Required = nil
	for _, f := range structFields(t) {
		if f.required {
			s.Required = append(s.Required, f.key)
		}
	}
}

// sectionTypes lists every struct type that the file can hold.
func sectionTypes() []reflect.Type {
	var list []reflect.Type
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		list = append(list, t)
		for _, f := range structFields(t) {
			visit(t.FieldByIndex(f.index).Type)
		}
	}
	visit(reflect.TypeFor[Appliance]())
	return list
}
