package iscsi

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// A target that does no digests says only that the login is wrong: what may be meant is named.
func TestALoginThatInsists(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings Settings
		stage    byte
		want     string
	}{
		{"digests, or none", Settings{HeaderDigest: []string{digestCRC, none}}, stageOperational, "ISCSI-REFUSED"},
		{"digests and nothing else", Settings{HeaderDigest: []string{digestCRC}, DataDigest: []string{digestCRC}}, stageOperational, "ISCSI-PARAMETER"},
		{"refused before digests were offered", Settings{HeaderDigest: []string{digestCRC}}, stageSecurity, "ISCSI-REFUSED"},
	} {
		m, err := newMachine(request{initiator: "iqn.2026-01.net.example:a", target: "iqn.2026-01.net.example:b", isid: NewISID(), settings: tc.settings})
		if err != nil {
			t.Fatal(err)
		}
		m.stage = tc.stage
		refused := m.refused(2, 0, nil)
		if got := code(atPortal("log in", "192.0.2.50:3260", refused)); got != tc.want {
			t.Errorf("%s: %s (%v), want %s", tc.name, got, refused, tc.want)
		}
		if tc.want == "ISCSI-PARAMETER" && !strings.Contains(refused.Error(), "HeaderDigest=CRC32C and DataDigest=CRC32C") {
			t.Errorf("%s: %v", tc.name, refused)
		}
	}
}

// LIO ends the connection without a word where it wants CHAP and is offered none.
func TestAConnectionThatEndsAtOnceMayWantCHAP(t *testing.T) {
	m := &machine{}
	at := atPortal("log in", "192.0.2.50:3260", m.ended(io.EOF))
	if !strings.Contains(at.Error(), "CHAP") || at.Code() != "ISCSI-CLOSED" {
		t.Errorf("%s: %v", at.Code(), at)
	}
	m.rounds = 1
	if at := atPortal("log in", "192.0.2.50:3260", m.ended(io.EOF)); strings.Contains(at.Error(), "CHAP") || !errors.Is(at, io.EOF) {
		t.Errorf("in the middle: %v", at)
	}
}
