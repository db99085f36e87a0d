package appliance

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Redact returns a file for the eyes of others: what stands where a secret may have been written by mistake, and is neither a source
// of keys nor a path, is replaced. A file that has nothing of that comes back byte for byte; of one that is no YAML nothing can be told,
// which is an error that says what is wrong with it.
func Redact(s Source, instead string) ([]byte, error) {
	if len(s.Data) > maxSource {
		return nil, fmt.Errorf("it is larger than %d bytes", maxSource)
	}
	var docs []yaml.Node
	if err := yaml.Load(s.Data, &docs, yaml.WithV4Defaults(), yaml.WithAllDocuments()); err != nil {
		return nil, fmt.Errorf("it is no YAML, so that secrets in it cannot be told: %s", syntaxProblem(s, err))
	}
	r := &redaction{instead: instead}
	var out bytes.Buffer
	w, err := yaml.NewDumper(&out, yaml.WithV4Defaults(), yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, err
	}
	for i := range docs {
		r.walk(&docs[i], false)
		if err := w.Dump(&docs[i]); err != nil {
			return nil, err
		}
	}
	if !r.changed {
		return s.Data, nil
	}
	return out.Bytes(), w.Close()
}

type redaction struct {
	instead string
	changed bool
}

func (r *redaction) walk(n *yaml.Node, certificates bool) {
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			r.walk(c, certificates)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch mapping := v.Kind == yaml.MappingNode; {
		case certificates && slices.Contains([]string{"ca", "cert", "key"}, k.Value):
			if !isPath(v) {
				r.all(v)
			}
		case slices.Contains([]string{"key", "secret", "mutual", "controller-secret"}, k.Value):
			r.source(v)
		case k.Value == "shell" && v.Value != "never", slices.Contains([]string{"chap", "dhchap", "tls", "env"}, k.Value) && !mapping:
			r.all(v)
		default:
			r.walk(v, k.Value == "tls")
		}
	}
}

// source keeps what is a KeySource.
func (r *redaction) source(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		if n.Kind != yaml.ScalarNode || !slices.Contains([]string{"kmip", "ephemeral", "prompt", ""}, n.Value) || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
			r.all(n)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Value == "kmip" && v.Kind == yaml.MappingNode, k.Value == "prompt" && v.Kind == yaml.ScalarNode, k.Value == "remove" && v.Value == "true":
		case k.Value == "file" && isPath(v) && path.IsAbs(v.Value):
		case isEmpty(v):
			r.all(k)
		default:
			r.all(v)
		}
	}
}

// isPath tells what reads like one, absolute or not.
func isPath(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Anchor == "" && !isPEM(n.Value) && (strings.Contains(n.Value, "/") || path.Ext(n.Value) != "")
}

func (r *redaction) all(n *yaml.Node) {
	r.changed = true
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		n.Anchor = ""
		for i, c := range n.Content {
			if n.Kind == yaml.SequenceNode || i%2 == 1 {
				r.all(c)
			} else if isEmpty(n.Content[i+1]) || c.Kind != yaml.ScalarNode {
				r.all(c)
			}
		}
		return
	}
	*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: r.instead}
}
