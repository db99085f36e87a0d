package appliance

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"
)

// Format returns the canonical form of one file: keys in the order of the
// types, two spaces of indent, comments kept. The content must decode; a
// layer, which is no whole appliance, is formatted too.
func Format(s Source) ([]byte, error) {
	p := &Problems{}
	d := &decoder{problems: p, file: map[*yaml.Node]string{}, pos: map[string]Pos{}}
	n := d.parse(s)
	if err := p.Err(); err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fmt.Errorf("format %s: the file is empty", s.Name)
	}
	order(n, reflect.TypeFor[Appliance]())
	doc := n
	var head yaml.Node
	if err := yaml.Load(s.Data, &head, yaml.WithV4Defaults()); err == nil && head.Kind == yaml.DocumentNode {
		head.Content[0] = n
		doc = &head
	}
	var out bytes.Buffer
	w, err := yaml.NewDumper(&out, yaml.WithV4Defaults(), yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("format %s: %w", s.Name, err)
	}
	if err := w.Dump(doc); err != nil {
		return nil, fmt.Errorf("format %s: %w", s.Name, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("format %s: %w", s.Name, err)
	}
	return out.Bytes(), nil
}

// order sorts the keys of n as the fields of t stand, unknown ones last.
func order(n *yaml.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, c := range n.Content {
			order(c, t.Elem())
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		fields := structFields(t)
		rank := func(key string) int {
			i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
			if i < 0 {
				return len(fields)
			}
			return i
		}
		type pair struct{ k, v *yaml.Node }
		var pairs []pair
		for i := 0; i+1 < len(n.Content); i += 2 {
			pairs = append(pairs, pair{n.Content[i], n.Content[i+1]})
			if f, ok := fieldFor(fields, n.Content[i].Value); ok {
				order(n.Content[i+1], t.FieldByIndex(f.index).Type)
			}
		}
		slices.SortStableFunc(pairs, func(a, b pair) int { return rank(a.k.Value) - rank(b.k.Value) })
		n.Content = n.Content[:0]
		for _, p := range pairs {
			n.Content = append(n.Content, p.k, p.v)
		}
	}
}
