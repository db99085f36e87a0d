//go:build !guest && !race

package luks

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// regular are volumes on files: everything but the mapping can be done with them, which is refused for what they are.
func regular(t *testing.T, names ...string) []Volume {
	t.Helper()
	img := format(t, "--type luks2 "+cheap)
	key := sealed(t, first)
	var volumes []Volume
	for _, name := range names {
		volumes = append(volumes, Volume{Name: name, Data: img.open(t), Keys: key})
	}
	return volumes
}

func TestABatchWhoseDeriveCrashesIsTriedOneByOne(t *testing.T) {
	volumes := regular(t, "one", crashes, "two")
	var asked []string
	derive := func(ctx context.Context, files []*os.File, p DeriveParams) ([]Result, error) {
		var names []string
		for _, v := range p.Volumes {
			names = append(names, v.Name)
		}
		asked = append(asked, strings.Join(names, "+"))
		return deriver(ctx, files, p)
	}
	outcomes, err := OpenBatch(t.Context(), volumes, 1<<20, derive)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one+crashes+two", "one", "crashes", "two"}, asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i, outcome := range outcomes {
		crashed, ok := errors.AsType[*CrashedError](outcome.Err)
		if ok != (volumes[i].Name == crashes) {
			t.Errorf("%s: %v", volumes[i].Name, outcome.Err)
		}
		if ok && !strings.Contains(crashed.Error(), "exit status 2") {
			t.Errorf("got %v", crashed)
		}
		if !ok && !strings.Contains(outcome.Err.Error(), "unlock "+volumes[i].Name+" (") || !ok && !strings.Contains(outcome.Err.Error(), "is no block device") {
			t.Errorf("got %v", outcome.Err)
		}
	}
}
