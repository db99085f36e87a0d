package iscsi

import (
	"fmt"
	"strings"
)

// StatusError is a login that the target has refused with a status (RFC 7143, 11.13.5).
type StatusError struct {
	Class, Detail byte
	Target        string // name, or empty at discovery
	Portal        string
	// Only is what was proposed without another choice when the target took the login for wrong: HeaderDigest=CRC32C.
	Only string
}

// meaning is what a status comes to, by which code, and what to do.
type meaning struct{ code, text, hint string }

func (e *StatusError) meaning() meaning {
	if e.Only != "" {
		return meaning{string(CodeParameter), "it may not do " + e.Only + ", beside which nothing was offered", "offer None too (crc32c,none), or let the target do digests"}
	}
	switch uint16(e.Class)<<8 | uint16(e.Detail) {
	case 0x0201:
		return meaning{string(CodeAuth), "it does not accept who we are", "look at the user, the secret and whether the target wants CHAP at all"}
	case 0x0202:
		return meaning{string(CodeForbidden), "this initiator may not use the target", "add the initiator's name to the target's access list"}
	case 0x0203:
		return meaning{string(CodeNotFound), "there is no such target", "compare the name with what initd iscsi discover lists"}
	case 0x0204:
		return meaning{string(CodeRemoved), "the target was removed for good", "take it out of the configuration, or name where it went"}
	case 0x0205:
		return meaning{string(CodeProtocol), "it speaks another version of the protocol", "look what listens there"}
	case 0x0206:
		return meaning{string(CodeTooMany), "it takes no more connections for this session", "end sessions that are not needed, or raise the target's limit"}
	case 0x0207:
		return meaning{string(CodeParameter), "it misses a key in the login", "look at the target's log for which one"}
	case 0x0208:
		return meaning{string(CodeParameter), "the connection cannot join the session", ""}
	case 0x0209:
		return meaning{string(CodeParameter), "it does not know this type of session", "some portals take no discovery: name the target and log in"}
	case 0x020a:
		return meaning{string(CodeParameter), "it knows no session like this", ""}
	case 0x020b:
		return meaning{string(CodeProtocol), "it takes what was sent for invalid in a login", ""}
	case 0x0300:
		return meaning{string(CodeUnavailable), "it has an error of its own", "look at the target's log"}
	case 0x0301:
		return meaning{string(CodeUnavailable), "the service is not available: the target is off, unknown there, or busy with another login", "look whether the target is enabled at this portal, and spelled as initd iscsi discover lists it"}
	case 0x0302:
		return meaning{string(CodeTooMany), "it is out of resources, or takes no more sessions", "end sessions that are not needed, or raise the target's limit"}
	}
	switch e.Class {
	case 2:
		return meaning{string(CodeRefused), "it takes the login for wrong", "look at the target's log"}
	case 3:
		return meaning{string(CodeUnavailable), "it cannot serve the login now", "look at the target's log"}
	}
	return meaning{string(CodeProtocol), "it answers with a status that is not known", "look what listens there"}
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("login refused: %s (status %02x%02x)", e.meaning().text, e.Class, e.Detail)
}

// Code is the stable code of this error.
func (e *StatusError) Code() string { return e.meaning().code }

// Hint says what to do.
func (e *StatusError) Hint() string { return e.meaning().hint }

// Retryable tells whether the target itself says that it may pass (class 3); what somebody has to mend on the target is
// tried again too, but slowly.
func (e *StatusError) Retryable() bool { return true }

// Temporary tells whether the same login may succeed soon, with nobody doing anything.
func (e *StatusError) Temporary() bool { return e.Class == 3 }

// RedirectError says that the target is served elsewhere.
type RedirectError struct {
	Address   string // HOST:PORT
	Permanent bool
}

func (e *RedirectError) Error() string {
	how := "for now"
	if e.Permanent {
		how = "for good"
	}
	return "the target has moved to " + e.Address + " " + how
}

// Code is the stable code of this error.
func (*RedirectError) Code() string { return "ISCSI-REDIRECT" }

// redirect reads where a target has moved to.
func redirect(detail byte, keys []pair) error {
	if detail != 1 && detail != 2 {
		return protocol("a redirection of the unknown kind %d", detail)
	}
	for _, p := range keys {
		if p.key != keyTargetAddress {
			continue
		}
		portal, err := parseTargetAddress(p.value)
		if err != nil {
			return err
		}
		return &RedirectError{Address: portal.Address(), Permanent: detail == 2}
	}
	return protocol("a redirection without an address")
}

// printable keeps a target's words within one line of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, short(s))
}
