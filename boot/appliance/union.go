package appliance

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// DefaultPrompt stands for the question that the unit itself makes up.
const DefaultPrompt = "-"

func (k *KeySource) decodeNode(d *decoder, n *yaml.Node, path string) {
	k.Pos = d.at(n)
	const forms = "write kmip, ephemeral, prompt, {kmip: {name: …}}, {file: PATH} or {prompt: TEXT}"
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "kmip":
			k.KMIP = &KMIPKey{}
		case "ephemeral":
			k.Ephemeral = true
		case "prompt":
			k.Prompt = DefaultPrompt
		default:
			d.lost = true // so that nobody says that the key is missing
			if hint := Suggest(n.Value, []string{"kmip", "ephemeral", "prompt"}); hint != "" {
				d.fail(n, path, hint, "%s: %q is no source of keys", name(path), n.Value)
				break
			}
			d.fail(n, path, forms, "%s: this is no source of keys, and no secret may stand in this file", name(path))
		}
		return
	}
	var shape struct {
		KMIP   *KMIPKey `yaml:"kmip"`
		File   string   `yaml:"file"`
		Prompt string   `yaml:"prompt"`
	}
	before := len(d.problems.List)
	d.decode(n, reflect.ValueOf(&shape).Elem(), path)
	k.KMIP, k.File, k.Prompt = shape.KMIP, shape.File, shape.Prompt
	given := 0
	for _, is := range []bool{shape.KMIP != nil, shape.File != "", shape.Prompt != ""} {
		if is {
			given++
		}
	}
	if given != 1 && len(d.problems.List) == before {
		d.fail(n, path, forms, "%s names %d sources of keys, not one", name(path), given)
	}
}

func (s *Shell) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode {
		if n.Value != "never" {
			d.fail(n, path, "write never, or {password: HASH}", "%s: this is neither never nor a mapping", name(path))
		}
		return
	}
	var shape struct {
		Password string `yaml:"password" want:"required" doc:"a crypt(3) hash, such as openssl passwd -6 prints"`
	}
	d.decode(n, reflect.ValueOf(&shape).Elem(), path)
	s.PasswordHash = shape.Password
	if p := shape.Password; p != "" && !strings.HasPrefix(p, "$") {
		s.PasswordHash = ""
		d.fail(n, path, "make one with: openssl passwd -6", "%s: the password is not a crypt(3) hash, and no secret may stand in this file", name(path))
	}
}
