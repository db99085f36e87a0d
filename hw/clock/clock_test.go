package clock

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFloorIsTheLatestOfWhatIsPast(t *testing.T) {
	a, b := time.Unix(100, 0), time.Unix(200, 0)
	if got := Floor(a, time.Time{}, b); !got.Equal(b) {
		t.Errorf("got %v, want %v", got, b)
	}
	if got := Floor(); !got.IsZero() {
		t.Errorf("of nothing: got %v, want zero", got)
	}
	if raised, err := Raise(time.Unix(1, 0)); raised || err != nil {
		t.Errorf("Raise to 1970: got %v, %v; want nothing done", raised, err)
	}
}

func TestAnAnchorTellsAStepFromTimeThatPassed(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := Anchor{Boot: time.Minute, Wall: noon}
	after := Anchor{Boot: 3 * time.Minute, Wall: noon.Add(2*time.Minute + time.Hour)}
	if got := after.Step(before); got != time.Hour {
		t.Errorf("step: got %v, want 1h", got)
	}
	if got, want := before.At(4*time.Minute), noon.Add(3*time.Minute); !got.Equal(want) {
		t.Errorf("at: got %v, want %v", got, want)
	}
	b, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var again Anchor
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, again); diff != "" {
		t.Errorf("after a round trip (-want +got):\n%s", diff)
	}
	now := Now()
	later := Now()
	if later.Boot < now.Boot {
		t.Errorf("the time since the start went back from %v to %v", now.Boot, later.Boot)
	}
}
