package appliance

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Bounds of what is read, several times what a plan of 10,000 units takes: one file and all of them, in bytes, and the values in them,
// each of which costs half a KiB.
const (
	maxSource  = 1 << 20
	maxSources = 4 << 20
	maxValues  = 250_000
)

// Source is one file: its name for messages, and its bytes.
type Source struct {
	Name string
	Data []byte
}

// Load reads file, then the layers beside it (appliance.yaml has
// appliance.d/*.yaml, in name order), then those in the further folders.
// The error is *Problems where the content is at fault; see Parse for what
// stands beside it.
func Load(file string, folders ...string) (*Appliance, error) {
	src, err := ReadSources(file, folders...)
	if err != nil {
		return nil, err
	}
	return Parse(src)
}

// ReadSources reads file and its layers without looking into them.
func ReadSources(file string, folders ...string) ([]Source, error) {
	first, err := readSource(file)
	if err != nil {
		return nil, err
	}
	list := []Source{first}
	beside := strings.TrimSuffix(file, filepath.Ext(file)) + ".d"
	for _, dir := range append([]string{beside}, folders...) {
		names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			return nil, fmt.Errorf("list layers in %s: %w", dir, err)
		}
		slices.Sort(names)
		for _, n := range names {
			if st, err := os.Stat(n); err == nil && !st.Mode().IsRegular() {
				return nil, fmt.Errorf("read the layer %s: it is no file", n)
			}
			s, err := readSource(n)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	}
	return list, nil
}

func readSource(name string) (Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return Source{}, fmt.Errorf("read the appliance file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return Source{}, fmt.Errorf("read appliance file: %w", err)
	}
	if len(b) > maxSource {
		return Source{}, fmt.Errorf("read appliance file %s: larger than %d bytes", name, maxSource)
	}
	return Source{Name: name, Data: b}, nil
}

// Parse merges the sources in order and decodes the result strictly. Beside
// *Problems there may still be an Appliance, read as if what was reported had
// been mended as the hints say: it is only good for finding more problems
// (Join adds what boot/plan finds), never for anything that is going to run.
func Parse(sources []Source) (*Appliance, error) {
	p := &Problems{}
	d := &decoder{problems: p, file: map[*yaml.Node]string{}, pos: map[string]Pos{}}
	if size := sizeOf(sources); size > maxSources {
		p.Add(Pos{File: sources[0].Name, Line: 1, Col: 1}, "", "", "the file and its layers have %d bytes, at most %d are taken", size, maxSources)
		return nil, p.Err()
	}
	var root *yaml.Node
	for _, s := range sources {
		n := d.parse(s)
		switch {
		case n == nil:
		case root == nil:
			root = n
		default:
			d.merge(root, n, "")
		}
	}
	if root == nil {
		if len(p.List) == 0 && len(sources) > 0 {
			p.Add(Pos{File: sources[0].Name, Line: 1, Col: 1}, "", "start with the line \"apiVersion: "+APIVersion+"\"", "the file is empty")
		}
		return nil, p.Err()
	}
	if d.tooMany {
		return nil, p.Err()
	}
	d.dropRemoved(root, "")
	a := &Appliance{}
	d.decodeRoot(root, a)
	a.Notes = d.notes
	a.positions, a.incomplete, a.taken = d.pos, d.lost, map[string]bool{}
	if d.broken {
		return nil, p.Err()
	}
	a.validate(p)
	return a, p.Err()
}

func sizeOf(sources []Source) (size int) {
	for _, s := range sources {
		size += len(s.Data)
	}
	return size
}

// parse reads one source into its top mapping; nil if it cannot be used.
func (d *decoder) parse(s Source) *yaml.Node {
	var docs []yaml.Node
	if err := yaml.Load(s.Data, &docs, yaml.WithV4Defaults(), yaml.WithAllDocuments()); err != nil {
		d.broken = true
		d.problems.List = append(d.problems.List, syntaxProblem(s, err))
		return nil
	}
	if len(docs) == 0 || docs[0].Kind == 0 || len(docs[0].Content) == 0 {
		return nil
	}
	if len(docs) > 1 {
		d.broken = true
		d.problems.Add(Pos{File: s.Name, Line: docs[1].Line, Col: 1}, "", "put the second into appliance.d/ as a layer", "one file holds one document, this one holds %d", len(docs))
		return nil
	}
	n := &docs[0]
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	d.own(n, s.Name, 0)
	if n.Kind == yaml.ScalarNode && n.Value == "" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.broken = true
		d.fail(n, "", "start with the line \"apiVersion: "+APIVersion+"\"", "an appliance file is a mapping of sections, not %s", d.kindName(n))
		return nil
	}
	return n
}

// own remembers which file each node came from and refuses the parts of YAML
// that this format leaves out.
func (d *decoder) own(n *yaml.Node, file string, depth int) {
	d.file[n] = file
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		d.broken = true
		d.fail(n, "", anchorHint, anchorMessage)
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(n, "", "leave it out; a text that begins with ! goes into quotes", "tags are not part of this format")
	}
	if len(d.file) > maxValues {
		if !d.tooMany {
			d.fail(n, "", "", "there are more than %d values up to here", maxValues)
		}
		d.broken, d.tooMany = true, true
		return
	}
	if depth > 32 {
		d.broken = true
		d.fail(n, "", "", "nested deeper than 32 levels")
		return
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if first, ok := seen[k.Value]; ok && k.Kind == yaml.ScalarNode {
				d.file[k] = file
				d.fail(k, k.Value, "merge the two", "key %q stands twice; first in line %d", k.Value, first.Line)
			}
			seen[k.Value] = k
		}
	}
	for _, c := range n.Content {
		d.own(c, file, depth+1)
	}
}
