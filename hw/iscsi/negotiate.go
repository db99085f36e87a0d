package iscsi

import (
	"slices"
	"strconv"
	"strings"
)

// negotiation settles the operational keys of one login (RFC 7143, chapter 13).
type negotiation struct {
	settings  Settings
	discovery bool
	agreed    Agreed
	offered   map[string]string // what we proposed
	seen      map[string]bool   // what the target has answered or proposed
}

func newNegotiation(s Settings, discovery bool) *negotiation {
	return &negotiation{
		settings: s, discovery: discovery, offered: map[string]string{}, seen: map[string]bool{},
		// What holds where a key is not negotiated (RFC 7143, 13): an answer that never comes must not change it.
		agreed: Agreed{
			MaxRecv: s.MaxRecv, MaxXmit: min(8192, s.MaxXmit), MaxBurst: 262144, FirstBurst: 65536, MaxR2T: 1,
			InitialR2T: true, ImmediateData: true, PDUInOrder: true, SeqInOrder: true, Time2Wait: 2, Time2Retain: 20,
		},
	}
}

// offers proposes every key at once: a target may otherwise propose what was left out and wait for an answer.
func (n *negotiation) offers() []pair {
	s := n.settings
	list := []pair{
		{keyHeaderDigest, strings.Join(s.HeaderDigest, ",")},
		{keyDataDigest, strings.Join(s.DataDigest, ",")},
		{keyMaxRecv, utoa(s.MaxRecv)},
		{keyTime2Wait, utoa(*s.Time2Wait)},
		{keyTime2Retain, utoa(*s.Time2Retain)},
		{keyErrorRecovery, "0"},
	}
	if !n.discovery {
		list = append(list, []pair{
			{keyInitialR2T, boolText(s.InitialR2T)},
			{keyImmediateData, boolText(!s.NoImmediate)},
			{keyMaxBurst, utoa(s.MaxBurst)},
			{keyFirstBurst, utoa(s.FirstBurst)},
			{keyMaxR2T, utoa(s.MaxR2T)},
			{keyMaxConnections, "1"},
			{keyPDUInOrder, yes},
			{keySeqInOrder, yes},
		}...)
	}
	for _, p := range list {
		n.offered[p.key] = p.value
	}
	return list
}

// take hears one key of the target. reply is what it wants to hear back, or "" for nothing; the error is a
// *ProtocolError, or an *UnacceptedError where a key was rejected.
func (n *negotiation) take(p pair) (reply string, err error) {
	if n.seen[p.key] {
		return "", protocol("%s is said twice", p.key)
	}
	n.seen[p.key] = true
	if p.key == keyMaxRecv { // each side declares its own
		v, ok := number(p.value, 512, maxLength)
		if !ok {
			return "", protocol("%s=%q", p.key, short(p.value))
		}
		n.agreed.MaxXmit = min(uint32(v), n.settings.MaxXmit)
		return "", nil
	}
	own, ours := n.offered[p.key]
	if ours {
		switch p.value {
		case answerReject:
			return "", &UnacceptedError{Key: p.key, Offered: own}
		case answerIrrelevant, answerNotUnderstood:
			return "", nil // what holds without it
		}
	}
	result, known, err := n.settle(p.key, p.value, ours)
	switch {
	case err != nil:
		return "", err
	case ours && known:
		return "", nil // an answer
	case !known:
		return answerNotUnderstood, nil
	case n.discovery && !slices.Contains([]string{keyHeaderDigest, keyDataDigest, keyErrorRecovery, keyTime2Wait, keyTime2Retain}, p.key):
		return answerIrrelevant, nil
	}
	return result, nil
}

// settle gives the result of a key that the target answers or proposes.
func (n *negotiation) settle(key, value string, ours bool) (result string, known bool, err error) {
	a, s := &n.agreed, n.settings
	bad := func() (string, bool, error) { return "", true, protocol("%s=%q", key, short(value)) }
	choose := func(into *bool, prefer []string) (string, bool, error) {
		for theirs := range strings.SplitSeq(value, ",") {
			if slices.Contains(prefer, theirs) {
				*into = theirs == digestCRC
				return theirs, true, nil
			}
			if ours {
				break // an answer is one value
			}
		}
		switch {
		case !ours:
			return answerReject, true, nil
		case value == none: // beside which nothing was offered; Reject is what it should have said
			return "", true, &UnacceptedError{Key: key, Offered: n.offered[key]}
		}
		return "", true, protocol("%s=%q was not offered", key, short(value))
	}
	truth := func(into *bool, own, or bool) (string, bool, error) {
		if value != yes && value != no {
			return bad()
		}
		*into = own && value == yes
		if or {
			*into = own || value == yes
		}
		return boolText(*into), true, nil
	}
	count := func(into *uint32, own uint32, low, high uint64, pick func(a ...uint32) uint32) (string, bool, error) {
		v, ok := number(value, low, high)
		if !ok {
			return bad()
		}
		*into = pick(own, uint32(v))
		return utoa(*into), true, nil
	}
	least, most := func(v ...uint32) uint32 { return slices.Min(v) }, func(v ...uint32) uint32 { return slices.Max(v) }
	switch key {
	case keyHeaderDigest:
		return choose(&a.HeaderDigest, s.HeaderDigest)
	case keyDataDigest:
		return choose(&a.DataDigest, s.DataDigest)
	case keyInitialR2T:
		return truth(&a.InitialR2T, s.InitialR2T, true)
	case keyImmediateData:
		return truth(&a.ImmediateData, !s.NoImmediate, false)
	case keyPDUInOrder:
		return truth(&a.PDUInOrder, true, true)
	case keySeqInOrder:
		return truth(&a.SeqInOrder, true, true)
	case keyMaxBurst:
		return count(&a.MaxBurst, s.MaxBurst, 512, maxLength, least)
	case keyFirstBurst:
		return count(&a.FirstBurst, s.FirstBurst, 512, maxLength, least)
	case keyMaxR2T:
		return count(&a.MaxR2T, s.MaxR2T, 1, 65535, least)
	case keyErrorRecovery:
		return count(&a.ErrorRecovery, 0, 0, 2, least)
	case keyTime2Wait:
		return count(&a.Time2Wait, *s.Time2Wait, 0, 3600, most)
	case keyTime2Retain:
		return count(&a.Time2Retain, *s.Time2Retain, 0, 3600, least)
	case keyMaxConnections:
		var one uint32
		return count(&one, 1, 1, 65535, least)
	}
	return "", false, nil
}

// result is what holds after the last answer, in the shape that the kernel takes.
func (n *negotiation) result() Agreed {
	a := n.agreed
	a.FirstBurst = min(a.FirstBurst, a.MaxBurst) // START_CONN refuses more
	// The kernel's pool of R2Ts has a power of 2: room for more than the target sends does no harm.
	r2t := uint32(1)
	for r2t < a.MaxR2T {
		r2t *= 2
	}
	a.MaxR2T = r2t
	return a
}

// UnacceptedError says that the target does not take a proposal and offers nothing instead.
type UnacceptedError struct{ Key, Offered string }

func (e *UnacceptedError) Error() string { return "the target rejects " + e.Key + "=" + e.Offered }

// Code is the stable code of this error.
func (*UnacceptedError) Code() string { return "ISCSI-PARAMETER" }

// Hint says what to do.
func (e *UnacceptedError) Hint() string { return "offer what the target is set up for: " + e.Key }

func utoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }

func boolText(v bool) string {
	if v {
		return yes
	}
	return no
}
