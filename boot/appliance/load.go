package appliance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxSource bounds one file, in bytes.
const maxSource = 1 << 20

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
	d.dropRemoved(root, "")
	a := &Appliance{}
	d.decodeRoot(root, a)
	a.positions, a.incomplete, a.taken = d.pos, d.lost, map[string]bool{}
	if d.broken {
		return nil, p.Err()
	}
	a.validate(p)
	return a, p.Err()
}

// parse reads one source into its top mapping; nil if it cannot be used.
func (d *decoder) parse(s Source) *yaml.Node {
	var docs []yaml.Node
	if err := yaml.Load(s.Data, &docs, yaml.WithV4Defaults(), yaml.WithAllDocuments()); err != nil {
		d.broken = true
		pos := syntaxPos(s.Name, err)
		d.problems.Add(pos, "", syntaxHint(s.Data, pos.Line), "%s", syntaxMessage(err))
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
		d.fail(n, "", "start with the line \"apiVersion: "+APIVersion+"\"", "an appliance file is a mapping of sections, not %s", kindName(n))
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
		d.fail(n, "", "write the value out", "anchors and aliases are not part of this format")
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(n, "", "leave it out", "tags such as %s are not part of this format", n.Tag)
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

func syntaxPos(file string, err error) Pos {
	pos := Pos{File: file, Line: 1, Col: 1}
	var le *yaml.LoadError
	if errors.As(err, &le) {
		pos.Line, pos.Col = max(le.Mark.Line, 1), max(le.Mark.Column, 1)
	}
	return pos
}

// syntaxHint guesses what is wrong around a line that is no YAML.
func syntaxHint(data []byte, line int) string {
	lines := strings.Split(string(data), "\n")
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		if blank := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]; strings.Contains(blank, "\t") {
			return "indent with spaces: YAML takes no tabs"
		}
	}
	return "look at the indentation, the brackets and the quotes here and in the line above"
}

func syntaxMessage(err error) string {
	var le *yaml.LoadError
	if errors.As(err, &le) {
		return "YAML syntax: " + le.Message
	}
	return "YAML syntax: " + strings.TrimPrefix(err.Error(), "yaml: ")
}
