package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"initd/boot/appliance"
	"initd/boot/plan"
	"initd/boot/step"
)

const goodFile = "apiVersion: initd/v1\nname: image\nmounts: [{where: /srv/a, type: tmpfs}]\n"

func TestChoosePlan(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "appliance.yaml")
	if err := os.WriteFile(image, []byte(goodFile), 0o644); err != nil {
		t.Fatal(err)
	}
	own := func(text string) step.StateFiles {
		return step.StateFiles{Own: true, Sources: []appliance.Source{{Name: "/state/appliance.yaml", Data: []byte(text)}}}
	}
	kept := own("apiVersion: initd/v1\nname: x\nmonuts: []\n")
	kept.LastGood, kept.Kept = &plan.Plan{Schema: plan.Schema, Name: "kept"}, time.Unix(0, 0)
	tests := []struct {
		name, file string
		state      step.StateFiles
		want       string // the plan's name
		notice     string // how the first notice begins
		current    bool
	}{
		{"the image's file", image, step.StateFiles{}, "image", "", true},
		{"the state disk's file instead", image, own(strings.Replace(goodFile, "image", "state", 1)), "state", "", true},
		{"a broken one: the last good plan", image, kept, "kept", "the last good plan is used, kept at 1970-01-01 00:00:00 UTC: /state/appliance.yaml:3:1: unknown key \"monuts\" in the file; did you mean \"mounts\"?", false},
		{"a broken one and no last plan: the image's", image, own("name: ["), "image", "the image's own file is used, without the state disk's: /state/appliance.yaml:2:1: YAML syntax: ", false},
		{"nothing at all", filepath.Join(dir, "none.yaml"), step.StateFiles{}, "appliance", "no plan: there is no appliance file", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := choosePlan(tt.file, tt.state, plan.Facts{}, parseAhead(tt.file))
			first := ""
			if len(c.notices) > 0 {
				first = c.notices[0]
			}
			if c.plan.Name != tt.want || c.current != tt.current || !strings.HasPrefix(first, tt.notice) || (tt.notice == "") != (first == "") {
				t.Errorf("got plan %q, current %v, first notice %q; want %q, %v, %q…", c.plan.Name, c.current, first, tt.want, tt.current, tt.notice)
			}
		})
	}
}
