package appliance

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// decoder turns nodes into the types of this package. Scalars decode by the
// field's Go type from their source text, never by what YAML would guess.
type decoder struct {
	problems *Problems
	file     map[*yaml.Node]string
	pos      map[string]Pos
	broken   bool // part of the tree is missing: semantic checks would mislead
	lost     bool // some values could not be read, and are missing in the result
	notes    []string
	tooMany  bool // more values than are taken
	private  int  // within fields where a secret may stand by mistake: no value is repeated
}

// nodeDecoder is a type with more than one shape in the file.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

func (d *decoder) at(n *yaml.Node) Pos {
	return Pos{File: d.file[n], Line: n.Line, Col: n.Column}
}

func (d *decoder) fail(n *yaml.Node, path, hint, format string, args ...any) {
	d.problems.Add(d.at(n), path, hint, format, args...)
}

// decodeRoot checks the version first: without it nothing else can be judged.
func (d *decoder) decodeRoot(n *yaml.Node, a *Appliance) {
	d.decode(n, reflect.ValueOf(a).Elem(), "")
	if v := lookup(n, "apiVersion"); v != nil && v.Value != APIVersion {
		d.fail(v, "apiVersion", "write "+APIVersion, "unknown version %q", v.Value)
	}
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	d.pos[path] = d.at(n)
	if v.CanAddr() {
		switch t := v.Addr().Interface().(type) {
		case nodeDecoder:
			t.decodeNode(d, n, path)
			return
		case encoding.TextUnmarshaler:
			if s, ok := d.scalar(n, path); ok {
				if err := t.UnmarshalText([]byte(s)); err != nil {
					d.fail(n, path, "", "%s: %v", path, err)
				}
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		d.decodeSlice(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
}

func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	s, ok := d.scalar(n, path)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
		d.checkFacts(n, path, s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			d.fail(n, path, "", "%s: write true or false, not %q", path, s)
		}
		v.SetBool(s == "true")
	case reflect.Int:
		i, err := strconv.Atoi(s)
		if err != nil {
			d.fail(n, path, "", "%s: %q is no whole number", path, s)
		}
		v.SetInt(int64(i))
	default:
		panic("appliance: no decoding for " + v.Type().String())
	}
}

func (d *decoder) decodeSlice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.lost = true
		hint := "write each entry on a line of its own, with a dash before it"
		if v.Type().Elem().Kind() == reflect.String && n.Kind == yaml.ScalarNode && d.private == 0 {
			hint = fmt.Sprintf("write %s: [%s]", path[strings.LastIndex(path, ".")+1:], strings.Join(strings.Fields(n.Value), ", "))
		}
		delete(d.pos, path) // as if it were not there: one problem is enough
		d.fail(n, path, hint, "%s is a list, not %s", path, d.kindName(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		d.decode(c, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.lost = true
		d.fail(n, path, "write {NAME: value, …}", "%s is a mapping of names to values, not %s", path, d.kindName(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, ok := d.scalar(n.Content[i], path)
		if !ok {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(n.Content[i+1], e, join(path, k))
		v.SetMapIndex(reflect.ValueOf(k), e)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.lost = true
		hint := d.bareFactHint(n)
		if hint == "" {
			hint = "its keys are " + strings.Join(keyNames(v.Type()), ", ")
		}
		d.fail(n, path, hint, "%s is a mapping, not %s", name(path), d.kindName(n))
		return
	}
	if f := v.FieldByName("Pos"); f.IsValid() {
		f.Set(reflect.ValueOf(d.at(n)))
	}
	fields, keys := structFields(v.Type()), keyNames(v.Type())
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		f, ok := fieldFor(fields, k.Value)
		if !ok {
			if f, ok = d.unknownKey(n, k, n.Content[i+1], path, fields, keys); !ok || given[f.key] {
				d.lost = true
				continue
			}
		}
		given[f.key] = true
		if f.private {
			d.private++
		}
		d.decode(n.Content[i+1], v.FieldByIndex(f.index), join(path, f.key))
		if f.private {
			d.private--
		}
		if text := v.FieldByIndex(f.index); f.required && text.Kind() == reflect.String && text.Len() == 0 && quotesOnly(n.Content[i+1]) {
			d.fail(n.Content[i+1], join(path, f.key), "", "%s is empty: %s", join(path, f.key), f.doc)
		}
	}
	for _, f := range fields {
		if f.required && !given[f.key] {
			d.fail(n, join(path, f.key), "", "%s has no %q: %s", name(path), f.key, f.doc)
		}
	}
}

// unknownKey reports k and returns the field that it probably means, if n does
// not have that one: what is below it is read too, and its problems reported.
func (d *decoder) unknownKey(n, k, value *yaml.Node, path string, fields []field, keys []string) (field, bool) {
	meant, hint := Nearest(k.Value, keys), "known here: "+strings.Join(keys, ", ")
	if meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
	}
	switch {
	case k.Value == "<<":
		d.fail(k, path, anchorHint, anchorMessage)
	case k.Kind != yaml.ScalarNode:
		d.fail(k, path, hint, "a key of %s is one word, not %s", name(path), d.kindName(k))
	case d.private > 0 && meant == "" && isEmpty(value) && !slices.Contains(FactNames(), k.Value): // {PASSPHRASE} is a mapping too
		d.fail(k, path, hint, "unknown key in %s (not shown: it may be a secret)", name(path))
	default:
		d.fail(k, join(path, k.Value), hint, "unknown key %q in %s", k.Value, name(path))
	}
	if meant == "" || lookup(n, meant) != nil {
		return field{}, false
	}
	return fieldFor(fields, meant)
}

// scalar returns the source text of a scalar.
func (d *decoder) scalar(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, d.bareFactHint(n), "%s is one value, not %s", name(path), d.kindName(n))
		return "", false
	}
	if isEmpty(n) {
		d.fail(n, path, "write a value, or leave the key out", "%s is empty", name(path))
		return "", false
	}
	if strings.ContainsRune(n.Value, 0) {
		d.fail(n, path, "leave it out", "%s: no name, path or argument can have the character NUL", name(path))
		return strings.ReplaceAll(n.Value, "\x00", ""), true
	}
	return n.Value, true
}

// isEmpty tells that nothing was written, not even quotes.
func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0
}

// quotesOnly tells that quotes were written and nothing in them.
func quotesOnly(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && !isEmpty(n)
}

// field is one key of a struct, embedded ones included.
type field struct {
	key, doc string
	required bool
	private  bool
	index    []int
}

func structFields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, opt, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opt == "inline":
			for _, in := range structFields(f.Type) {
				in.index = append([]int{i}, in.index...)
				list = append(list, in)
			}
		case key != "" && key != "-":
			list = append(list, field{key: key, doc: f.Tag.Get("doc"), required: f.Tag.Get("want") == "required", private: f.Tag.Get("private") == "true", index: []int{i}})
		}
	}
	return list
}

func keyNames(t reflect.Type) []string {
	var list []string
	for _, f := range structFields(t) {
		list = append(list, f.key)
	}
	return list
}

func fieldFor(list []field, key string) (field, bool) {
	for _, f := range list {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

func name(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func (d *decoder) kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Value == "" {
			return "nothing"
		}
		if d.private > 0 {
			return "one value (not shown: it may be a secret)"
		}
		return fmt.Sprintf("the value %q", n.Value)
	}
	return "this"
}
