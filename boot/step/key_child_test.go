package step

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
)

// The time may be over at any moment, and what is awaited then is all that is said.
func TestAFetchSaysAtEachMomentWhyThereIsNoKeyYet(t *testing.T) {
	refused := &kmip.Error{Server: "kms-a", Address: "192.0.2.21:5696", Code: kmip.CodeDial, Cause: errors.New("connection refused")}
	const a, both = "kms-a (192.0.2.21:5696): connection refused", "kms-a (192.0.2.21:5696): connection refused; kms-b (192.0.2.22:5696): only 30 bytes of an answer came within 30s"
	var why kmipReasons
	for i, step := range []struct {
		event kmip.Event
		want  string
	}{
		{kmip.Event{Kind: kmip.Dialling, Server: "kms-a"}, ""},
		{kmip.Event{Kind: kmip.Failed, Server: "kms-a", Error: refused}, a},
		{kmip.Event{Kind: kmip.Dialling, Server: "kms-b", Previous: "kms-a"}, a},
		{kmip.Event{Kind: kmip.Connected, Server: "kms-b", Address: "192.0.2.22:5696"}, "kms-b (192.0.2.22:5696): no answer yet; before: " + a},
		{kmip.Event{Kind: kmip.Waiting, Reasons: []string{a, "kms-b (192.0.2.22:5696): only 30 bytes of an answer came within 30s"}}, both},
		{kmip.Event{Kind: kmip.Dialling, Server: "kms-b"}, both},
		{kmip.Event{Kind: kmip.Connected, Server: "kms-b", Address: "192.0.2.22:5696"}, "kms-b (192.0.2.22:5696): no answer yet; before: " + both},
		{kmip.Event{Kind: kmip.Dialling, Server: "kms-b"}, both},
	} {
		if diff := cmp.Diff(step.want, why.progress(step.event).Waiting); diff != "" {
			t.Errorf("event %d, %s (-want +got):\n%s", i, step.event, diff)
		}
	}
	why.progress(kmip.Event{Kind: kmip.Answered, Server: "kms-b", Found: 1, Missing: 1})
	if p := why.progress(kmip.Event{Kind: kmip.Connected, Server: "kms-b", Address: "192.0.2.22:5696"}); p.Waiting != "kms-b (192.0.2.22:5696): no answer yet" {
		t.Errorf("asked for what it did not have: %q", p.Waiting)
	}
}
