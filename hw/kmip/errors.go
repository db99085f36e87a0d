package kmip

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Code names a kind of failure; codes are stable and documented.
type Code string

// Codes of failures on the way to a server.
const (
	CodeConfig    Code = "KMIP-CONFIG"    // certificates, keys or addresses that cannot be used
	CodeResolve   Code = "KMIP-RESOLVE"   // the server's name has no address
	CodeDial      Code = "KMIP-DIAL"      // no TCP connection
	CodeTimeout   Code = "KMIP-TIMEOUT"   // connected or sent, but no answer in time
	CodeClosed    Code = "KMIP-CLOSED"    // the connection ended in mid-conversation
	CodeNoServer  Code = "KMIP-NO-SERVER" // several servers, each with a reason of its own; see Error.Others
	CodeLocal     Code = "KMIP-LOCAL"     // something on this machine failed, such as locking memory
	CodeCancelled Code = "KMIP-CANCELLED" // the context ended before anything could be learned
)

// Codes of TLS failures.
const (
	CodeTLS              Code = "KMIP-TLS"                // a handshake failure without a code of its own
	CodeTLSCA            Code = "KMIP-TLS-CA"             // signed by none of the CAs
	CodeTLSName          Code = "KMIP-TLS-NAME"           // a certificate for another name
	CodeTLSExpired       Code = "KMIP-TLS-EXPIRED"        // the server's certificate is too old for this clock
	CodeTLSNotYet        Code = "KMIP-TLS-NOT-YET"        // the server's certificate is too new for this clock
	CodeTLSClientRefused Code = "KMIP-TLS-CLIENT-REFUSED" // the server does not take our certificate
	CodeTLSVersion       Code = "KMIP-TLS-VERSION"        // no TLS version in common
	CodePin              Code = "KMIP-PIN"                // the server's public key is not the pinned one
)

// Codes of failures in the conversation, and of objects.
const (
	CodeVersion     Code = "KMIP-VERSION"     // no KMIP version in common
	CodeProtocol    Code = "KMIP-PROTOCOL"    // bytes that are no KMIP message, or an answer to something else
	CodeRefused     Code = "KMIP-REFUSED"     // the server failed the request with another reason
	CodeUnsupported Code = "KMIP-UNSUPPORTED" // the server cannot do what the request needs
	CodeDenied      Code = "KMIP-DENIED"      // the server knows us but does not let us
	CodeNotFound    Code = "KMIP-NOT-FOUND"   // no object matches
	CodeAmbiguous   Code = "KMIP-AMBIGUOUS"   // several objects match
	CodeWrongType   Code = "KMIP-WRONG-TYPE"  // an object that is no key, or not of the type asked for
	CodeState       Code = "KMIP-STATE"       // deactivated, compromised, destroyed or archived
	CodeWrapped     Code = "KMIP-WRAPPED"     // the key comes wrapped in another key
	CodeFormat      Code = "KMIP-FORMAT"      // a key format that holds no plain key bytes
)

// Error is every failure that this package returns for a server or an object.
// It never holds key material.
type Error struct {
	Code Code
	// Op is what was tried: "get key", "connect to key server".
	Op string
	// Object is the name of the key concerned, or empty.
	Object string
	// Server and Address are the server concerned, or empty.
	Server, Address string
	// Cause is why.
	Cause error
	// Hint is what the reader can do about it, or empty.
	Hint string
	// Retryable: the same call may succeed later without a change on this machine.
	Retryable bool
	// Clock: whether this is an error depends on what this machine's clock says; a step of it is a reason to try again.
	Clock bool
	// Others are the reasons of the other servers that were tried.
	Others []*Error

	// rejected is the certificate that was not good enough, for a probe to show.
	rejected *x509.Certificate
}

// Error reads "get key "x" from kms-a (192.0.2.21:5696): cause: hint".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		fmt.Fprintf(&b, " %q", e.Object)
	}
	if e.Server != "" {
		if e.Object != "" {
			b.WriteString(" from")
		}
		b.WriteString(" " + e.where())
	}
	b.WriteString(": " + e.Reason())
	return b.String()
}

// Reason is the cause and the hint, without operation, object and server.
func (e *Error) Reason() string { return e.reason(true) }

// Brief reads "kms-a (192.0.2.21:5696): cause": who and why, for a caller who shows the object and the hint himself.
func (e *Error) Brief() string {
	if e.Server == "" {
		return e.reason(false)
	}
	return e.where() + ": " + e.reason(false)
}

func (e *Error) reason(hints bool) string {
	var parts []string
	if e.Cause != nil {
		parts = append(parts, e.Cause.Error())
	} else if len(e.Others) == 0 {
		parts = append(parts, string(e.Code))
	}
	if e.Hint != "" && hints {
		parts = append(parts, e.Hint)
	}
	s := strings.Join(parts, ": ")
	for _, o := range e.Others {
		if s != "" {
			s += "; "
		}
		s += o.where() + ": " + o.reason(hints)
	}
	return s
}

func (e *Error) where() string {
	if e.Address == "" {
		return e.Server
	}
	return e.Server + " (" + e.Address + ")"
}

// Unwrap gives the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf gives the code of the first Error in err's chain, or "".
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e.Code
	}
	return ""
}

// passes tells whether what is wrong may pass by itself, as an outage does. What somebody has to mend is not waited for.
func (e *Error) passes() bool {
	switch e.Code {
	case CodeResolve, CodeDial, CodeTimeout, CodeClosed, CodeCancelled:
		return true
	}
	return slices.ContainsFunc(e.Others, (*Error).passes)
}

// curable tells whether the cure is on the server, or in time: all but a configuration of ours that cannot work.
func curable(c Code) bool { return c != CodeConfig }

// about returns a copy that names the object and what was tried with it.
func (e *Error) about(op, object string) *Error {
	c := *e
	c.Op, c.Object = op, object
	return &c
}

type errorJSON struct {
	Code      Code     `json:"code"`
	Op        string   `json:"op"`
	Object    string   `json:"object,omitempty"`
	Server    string   `json:"server,omitempty"`
	Address   string   `json:"address,omitempty"`
	Cause     string   `json:"cause,omitempty"`
	Hint      string   `json:"hint,omitempty"`
	Retryable bool     `json:"retryable,omitempty"`
	Clock     bool     `json:"clock,omitempty"`
	Others    []*Error `json:"others,omitempty"`
}

// MarshalJSON writes the cause as its text.
func (e *Error) MarshalJSON() ([]byte, error) {
	j := errorJSON{Code: e.Code, Op: e.Op, Object: e.Object, Server: e.Server, Address: e.Address, Hint: e.Hint, Retryable: e.Retryable, Clock: e.Clock, Others: e.Others}
	if e.Cause != nil {
		j.Cause = e.Cause.Error()
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote; the cause is only its text then.
func (e *Error) UnmarshalJSON(data []byte) error {
	var j errorJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*e = Error{Code: j.Code, Op: j.Op, Object: j.Object, Server: j.Server, Address: j.Address, Hint: j.Hint, Retryable: j.Retryable, Clock: j.Clock, Others: j.Others}
	if j.Cause != "" {
		e.Cause = errors.New(j.Cause)
	}
	return nil
}
