//go:build !guest && !race

package luks

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// These volumes are on files: everything but the mapping can be done with them, which is refused for what they are.
const opened1 = "is no block device"

// regular are volumes on copies of one image.
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

// absurd asks for more work than can ever be done.
func absurd(t *testing.T, name string) Volume {
	t.Helper()
	img := format(t, "--type luks2 "+cheap)
	img.edit(t, `"iterations":1000,"salt"`, `"iterations":2147483647,"salt"`)
	return Volume{Name: name, Data: img.open(t), Keys: sealed(t, first)}
}

// run is what was asked of derive, and what was told of each volume, in order.
type run struct {
	asked, ended []string
	doing        map[string][]string
	outcomes     map[string]Outcome
}

// openRegular opens volumes until as many have ended as are not named in never, and then ends it.
func openRegular(t *testing.T, limit time.Duration, never []string, volumes ...Volume) run {
	t.Helper()
	r := run{doing: map[string][]string{}, outcomes: map[string]Outcome{}}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	derive := func(ctx context.Context, files []*os.File, p DeriveParams, tell func(Told)) (func() error, error) {
		var names []string
		for _, v := range p.Volumes {
			names = append(names, v.Name)
		}
		r.asked = append(r.asked, strings.Join(names, "+"))
		return deriver(ctx, files, p, tell)
	}
	outcomes, err := openBatch(ctx, volumes, Batch{
		Derive: derive, MemoryKiB: 1 << 20,
		Doing: func(i int, what string) { r.doing[volumes[i].Name] = append(r.doing[volumes[i].Name], what) },
		Opened: func(i int, o Outcome) {
			r.ended = append(r.ended, volumes[i].Name)
			if len(r.ended) == len(volumes)-len(never) {
				cancel(errOver)
			}
		},
	}, limit)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		r.outcomes[volumes[i].Name] = o
	}
	return r
}

var errOver = errors.New("the deadline is over")

// through fails unless the volumes were opened, up to the mapping.
func (r run) through(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := r.outcomes[name].Err; err == nil || !strings.Contains(err.Error(), "unlock "+name+" (") || !strings.Contains(err.Error(), opened1) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func (r run) crashed(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		crashed, ok := errors.AsType[*CrashedError](r.outcomes[name].Err)
		if !ok || !strings.Contains(crashed.Error(), "exit status 2") {
			t.Errorf("%s: got %v", name, r.outcomes[name].Err)
		}
	}
}

func (r run) unfinished(t *testing.T, name, doing string) {
	t.Helper()
	e, ok := errors.AsType[*UnfinishedError](r.outcomes[name].Err)
	if !ok || e.Doing != doing || !errors.Is(e, errOver) {
		t.Errorf("%s: got %v, want %s", name, r.outcomes[name].Err, doing)
	}
}

func TestABatchWhoseDeriveCrashesIsTriedOneByOne(t *testing.T) {
	r := openRegular(t, firstLimit, nil, regular(t, "one", crashes, "two")...)
	r.through(t, "one", "two")
	r.crashed(t, crashes)
	if r.asked[0] != "one+"+crashes+"+two" || !slices.Contains(r.asked, crashes) || strings.Contains(strings.Join(r.asked[1:], " "), "+") {
		t.Errorf("asked for %q", r.asked)
	}
}

func TestWhatWasToldBeforeACrashCounts(t *testing.T) {
	r := openRegular(t, firstLimit, nil, regular(t, "one", crashesLast, "two")...)
	r.through(t, "one", "two")
	r.crashed(t, crashesLast)
	if diff := cmp.Diff([]string{"one+" + crashesLast + "+two", crashesLast}, r.asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(r.ended) != 3 || r.ended[2] != crashesLast {
		t.Errorf("ended: %q", r.ended)
	}
}

func TestEndlessWorkOfOneVolumeEndsWithTheDeadlineAndIsNamed(t *testing.T) {
	// two of each, because there are two processors
	volumes := append([]Volume{absurd(t, "absurd1"), absurd(t, "absurd2")}, regular(t, loops, "one", "two", "three", "four")...)
	r := openRegular(t, firstLimit, []string{"absurd1", "absurd2", loops}, volumes...)
	r.through(t, "one", "two", "three", "four")
	r.unfinished(t, loops, "reading the header")
	for _, name := range []string{"absurd1", "absurd2"} {
		e, ok := errors.AsType[*UnfinishedError](r.outcomes[name].Err)
		if !ok || e.Doing != "slot 0: pbkdf2 of 2147483647 iterations" && e.Doing != "reading the header" {
			t.Errorf("%s: got %v", name, r.outcomes[name].Err)
		}
	}
	if len(r.asked) != 1 {
		t.Errorf("asked for %q", r.asked)
	}
}

func TestACrashAndEndlessWorkInOneBatchAreTheirOwnVolumesTrouble(t *testing.T) {
	volumes := append([]Volume{absurd(t, "absurd")}, regular(t, loops, crashes, "one", "two", "three", "four", "five")...)
	r := openRegular(t, time.Second, []string{"absurd", loops}, volumes...)
	r.through(t, "one", "two", "three", "four", "five")
	r.crashed(t, crashes)
	for _, name := range []string{"absurd", loops} { // what they were at depends on how far a busy machine came in a second
		if e, ok := errors.AsType[*UnfinishedError](r.outcomes[name].Err); !ok || !errors.Is(e, errOver) {
			t.Errorf("%s: got %v", name, r.outcomes[name].Err)
		}
	}
}

// In the middle of eight, the rest of which are sound, each of these costs its own volume, and nothing is done twice.
func TestABadHeaderInABatchOfEightCostsItsOwnVolume(t *testing.T) {
	names := []string{"one", "two", "three", "bad", "four", "five", "six", "seven"}
	for _, row := range []struct {
		name    string
		options string
		change  func(t *testing.T, img image)
		code    string
	}{
		{"both copies damaged", cheap, func(t *testing.T, img image) {
			img.damage(t, 5000, []byte("x"))
			img.damage(t, 16384+5000, []byte("x"))
		}, broken},
		{"zeros", cheap, func(t *testing.T, img image) { img.damage(t, 0, make([]byte, 32768)) }, nothing},
		{"nested a thousand deep", cheap, func(t *testing.T, img image) {
			img.edit(t, `{"keyslots":`, `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,"keyslots":`)
		}, broken},
		{"a slot that overflows", cheap, func(t *testing.T, img image) { img.edit(t, `"offset":"32768"`, `"offset":"18446744073709551104"`) }, broken},
		{"argon2 beyond memory", "--pbkdf argon2id " + costs, func(t *testing.T, img image) { img.edit(t, `"memory":65536`, `"memory":4194304`) }, "LUKS-TOO-COSTLY"},
		{"pbkdf2 of 2^32-1 iterations", cheap, func(t *testing.T, img image) {
			img.edit(t, `"iterations":1000,"salt"`, `"iterations":4294967295,"salt"`)
		}, broken},
	} {
		t.Run(row.name, func(t *testing.T) {
			img := format(t, "--type luks2 "+row.options)
			row.change(t, img)
			volumes := regular(t, names...)
			volumes[3].Data = img.open(t)
			r := openRegular(t, firstLimit, nil, volumes...)
			r.through(t, "one", "two", "three", "four", "five", "six", "seven")
			if coded, ok := errors.AsType[interface {
				error
				Code() string
			}](r.outcomes["bad"].Err); !ok || coded.Code() != row.code {
				t.Errorf("got %v, want %s", r.outcomes["bad"].Err, row.code)
			}
			if len(r.asked) != 1 {
				t.Errorf("asked for %q", r.asked)
			}
		})
	}
}
