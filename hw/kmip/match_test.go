package kmip

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ovh/kmip-go/payloads"
)

func TestAnObjectThatIsListedTwiceIsOneObject(t *testing.T) {
	got := locatedIDs(&payloads.LocateResponsePayload{UniqueIdentifier: []string{"a", "", "b", "a", ""}})
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAnIDThatIsNoWordIsQuoted(t *testing.T) {
	objects := []*object{{id: "6d6b1c5e"}, {id: "a\x1b[2Jb"}, {id: "a b"}}
	if got, want := ids(objects), `6d6b1c5e, "a\x1b[2Jb", "a b"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheServersCustomAttributesSelectToo(t *testing.T) {
	for name, good := range map[string]bool{"x-Serial": true, "y-Serial": true, "Serial": false} {
		if err := (Request{Selector: Selector{Attributes: map[string]string{name: "1"}}}).Validate(); (err == nil) != good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
