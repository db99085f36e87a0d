package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/tests/golden"
)

// parse loads the text as f.yaml.
func parse(t *testing.T, text string) *appliance.Appliance {
	t.Helper()
	a, err := appliance.Parse([]appliance.Source{{Name: "f.yaml", Data: []byte("apiVersion: initd/v1\nname: box\n" + text)}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// services is a small kind of its own: a service needs what it names.
func services() []plan.Kind {
	return []plan.Kind{{Name: "service", Expand: func(x *plan.Expansion) {
		for i, s := range x.Appliance.Services {
			u := plan.Unit{ID: "service/" + s.Name, Stage: plan.Services, Provides: []plan.Resource{plan.Resource("service/" + s.Name)}}
			for _, n := range s.Needs {
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{plan.Resource(n)}})
			}
			for _, n := range s.After {
				u.Needs = append(u.Needs, plan.Need{AnyOf: []plan.Resource{plan.Resource(n)}, Mode: plan.After})
			}
			if len(s.Command) > 1 {
				var any []plan.Resource
				for _, n := range s.Command[1:] {
					any = append(any, plan.Resource(n))
				}
				u.Needs = append(u.Needs, plan.Need{AnyOf: any})
			}
			x.Add("services["+string(rune('0'+i))+"]", u, map[string]string{"name": x.Expand("services", s.User, s.Name)})
		}
	}}}
}

func TestCompileProblems(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a need that nothing provides, with the nearest name",
			"services:\n  - {name: redis, command: [/r]}\n  - {name: web, command: [/w], needs: [service/rediss]}\n",
			`f.yaml:5:5: service/web needs service/rediss, which nothing provides; did you mean "service/redis"?`},
		{"a need of a class that the file does not have",
			"services:\n  - {name: web, command: [/w], needs: [luks/tnak0]}\n",
			`f.yaml:4:5: service/web needs luks/tnak0, which nothing provides; this file provides no luks at all: add it under media: {luks: […]}`},
		{"a cycle shows its chain",
			"services:\n  - {name: a, command: [/a], needs: [service/b]}\n  - {name: b, command: [/b], after: [service/c]}\n  - {name: c, command: [/c], needs: [service/a]}\n",
			`f.yaml:4:5: cycle: service/a needs service/b (line 5) needs service/c (line 6) needs service/a; remove one of these needs: as it is, none of them could ever start`},
		{"a unit that needs itself",
			"services:\n  - {name: a, command: [/a], needs: [service/a]}\n",
			`f.yaml:4:5: cycle: service/a needs service/a; remove that need`},
		{"a class that nobody knows",
			"services:\n  - {name: redis, command: [/r]}\n  - {name: web, command: [/w], needs: [servcie/redis]}\n",
			`f.yaml:5:5: service/web needs servcie/redis, which nothing provides; did you mean "service/redis"?`},
		{"something missing beside a cycle",
			"services:\n  - {name: a, command: [/a], needs: [service/a]}\n  - {name: web, command: [/w], needs: [tape/x]}\n",
			"f.yaml:4:5: cycle: service/a needs service/a; remove that need\n" +
				`f.yaml:5:5: service/web needs tape/x, which nothing provides; write a device (uuid/…, label/…, partlabel/…, path/…, dev/…) or something of this file: service/a`},
		{"a machine fact that is not known",
			"services:\n  - {name: a, command: [/a], user: \"${machine.serial}\"}\n",
			`f.yaml:4:3: ${machine.serial} is not known here; plan with --facts host on that machine, or --facts FILE`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := plan.Compile(parse(t, tt.text), plan.Facts{}, services())
			var p *appliance.Problems
			if !errors.As(err, &p) {
				t.Fatalf("got %v, want problems", err)
			}
			if diff := cmp.Diff(tt.want, p.Error()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAlternativeOutsideTheCycleBreaksIt(t *testing.T) {
	a := parse(t, "services:\n  - {name: a, command: [/a, service/b, service/free]}\n  - {name: b, command: [/b], needs: [service/a]}\n  - {name: free, command: [/f]}\n")
	if _, err := plan.Compile(a, plan.Facts{}, services()); err != nil {
		t.Errorf("Compile: %v", err)
	}
}

func TestCompileIsPure(t *testing.T) {
	text := "services:\n  - {name: z, command: [/z], user: \"${machine.uuid}-${unit.name}\"}\n  - {name: a, command: [/a], needs: [service/z]}\n"
	var digests, bodies []string
	for range 3 {
		p, err := plan.Compile(parse(t, text), plan.Facts{UUID: "u-1"}, services())
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		digests, bodies = append(digests, p.Digest), append(bodies, string(b))
	}
	if digests[0] != digests[1] || bodies[0] != bodies[2] {
		t.Errorf("plans of one file differ: %v", digests)
	}
	var back plan.Plan
	if err := json.Unmarshal([]byte(bodies[0]), &back); err != nil {
		t.Fatal(err)
	}
	if got := string(back.Unit("service/z").Spec); got != `{"name":"u-1-z"}` {
		t.Errorf("spec after expansion and a round trip: got %s", got)
	}
	if ready := back.Unit(plan.ReadyID); ready == nil || len(ready.Needs) != 2 || ready.Needs[0].Mode != plan.After {
		t.Errorf("ready: got %+v, want it after both services", ready)
	}
}

func TestDiff(t *testing.T) {
	compile := func(text string) *plan.Plan {
		p, err := plan.Compile(parse(t, text), plan.Facts{}, services())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old := compile("services:\n  - {name: a, command: [/a], user: x}\n  - {name: b, command: [/b]}\n  - {name: d, command: [/b]}\n")
	new := compile("services:\n  - {name: a, command: [/a], user: y, needs: [service/c]}\n  - {name: c, command: [/c]}\n  - {name: d, command: [/b]}\n")
	var b bytes.Buffer
	if err := plan.WriteDiff(&b, plan.Diff(old, new)); err != nil {
		t.Fatal(err)
	}
	want := `~ service/a
    name: "x" -> "y"
    + needs service/c
+ service/c
~ ready
    + after service/c
    - after service/b
- service/b
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("diff (-want +got):\n%s", diff)
	}
	if d := plan.Diff(old, old); len(d) != 0 {
		t.Errorf("a plan differs from itself: %v", d)
	}
}

func TestDrawings(t *testing.T) {
	p, err := plan.Compile(parse(t, "services:\n  - {name: a, command: [/a]}\n  - {name: b, command: [/b], needs: [service/a, endpoint/192.0.2.1:1]}\n  - {name: c, command: [/c, service/a, service/b], after: [service/b]}\n"), plan.Facts{}, services())
	if err != nil {
		t.Fatal(err)
	}
	for ext, draw := range map[string]func(*bytes.Buffer) error{
		"txt": func(b *bytes.Buffer) error { return p.Text(b) },
		"dot": func(b *bytes.Buffer) error { return p.DOT(b) },
		"svg": func(b *bytes.Buffer) error { return p.SVG(b) },
	} {
		var b bytes.Buffer
		if err := draw(&b); err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, filepath.Join("testdata", "small."+ext), b.String())
	}
}
