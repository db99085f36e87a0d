package appliance

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// merge lays over onto base: mappings merge, lists of named things merge by
// name, everything else is replaced.
func (d *decoder) merge(base, over *yaml.Node, path string) {
	for i := 0; i+1 < len(over.Content); i += 2 {
		k, v := over.Content[i], over.Content[i+1]
		old := lookup(base, k.Value)
		switch {
		case old == nil:
			base.Content = append(base.Content, k, v)
		case old.Kind == yaml.MappingNode && v.Kind == yaml.MappingNode:
			d.merge(old, v, join(path, k.Value))
		case named(old) && named(v):
			d.mergeNamed(old, v, join(path, k.Value))
		default:
			replace(base, k, v)
		}
	}
}

func (d *decoder) mergeNamed(base, over *yaml.Node, path string) {
	var names []string
	entry := map[string]*yaml.Node{}
	for _, b := range base.Content {
		name := lookup(b, "name").Value
		if entry[name] == nil {
			entry[name], names = b, append(names, name)
		}
	}
	said := map[string]*yaml.Node{}
	for _, item := range over.Content {
		at := lookup(item, "name")
		name := at.Value
		switch first, b := said[name], entry[name]; {
		case first != nil:
			d.fail(at, path, "merge the two", "%s: %q stands twice in this layer; first in line %d", path, name, first.Line)
		case b != nil:
			d.merge(b, item, fmt.Sprintf("%s[%s]", path, name))
		case lookup(item, "remove") != nil:
			// It may have gone from the image since: that must not cost the state disk's file and all other layers.
			if note := fmt.Sprintf("%s: %s: there is no %q to remove", d.at(at), path, name); len(d.notes) < maxHints {
				if hint := Suggest(name, names); hint != "" {
					note += "; " + hint
				}
				d.notes = append(d.notes, note)
			}
		default:
			base.Content = append(base.Content, item)
		}
		said[name] = at
	}
}

// dropRemoved deletes the entries that say remove: true.
func (d *decoder) dropRemoved(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		var keep []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if d.removed(n.Content[i+1], join(path, n.Content[i].Value)) {
				continue
			}
			keep = append(keep, n.Content[i], n.Content[i+1])
		}
		n.Content = keep
	case yaml.SequenceNode:
		var keep []*yaml.Node
		for i, c := range n.Content {
			if !d.removed(c, fmt.Sprintf("%s[%d]", path, i)) {
				keep = append(keep, c)
			}
		}
		n.Content = keep
	}
	for _, c := range n.Content {
		d.dropRemoved(c, path)
	}
}

func (d *decoder) removed(n *yaml.Node, path string) bool {
	r := lookup(n, "remove")
	if r == nil {
		return false
	}
	if r.Value != "true" {
		d.fail(r, path, "leave it out", "remove takes only true")
	}
	return true
}

// named tells whether n is a list whose entries are all mappings with a name.
func named(n *yaml.Node) bool {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return false
	}
	for _, c := range n.Content {
		if v := lookup(c, "name"); v == nil || v.Kind != yaml.ScalarNode {
			return false
		}
	}
	return true
}

func lookup(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func replace(m, key, value *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key.Value {
			m.Content[i], m.Content[i+1] = key, value
			return
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
