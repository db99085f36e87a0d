package kmip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
	"time"
)

// TLS alerts that have a meaning of their own here (RFC 8446, section 6.2).
// The numbers are what a peer sends; crypto/tls keeps its type to itself.
const (
	alertHandshakeFailure       = 40
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertCertificateRevoked     = 44
	alertCertificateExpired     = 45
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertAccessDenied           = 49
	alertDecryptError           = 51
	alertProtocolVersion        = 70
	alertUnrecognizedName       = 112
	alertCertificateRequired    = 116
)

// classify turns what went wrong between us and a server into an Error. The
// clock is an argument because what is wrong with a certificate depends on it.
func classify(err error, id *identity, now time.Time) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e := classifyCertificate(err, now); e != nil {
		if cv, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(cv.UnverifiedCertificates) > 0 {
			e.rejected = cv.UnverifiedCertificates[0]
		}
		return e
	}
	if alert, ok := remoteAlert(err); ok {
		return classifyAlert(alert, id, now)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &Error{Code: CodeTLS, Cause: errors.New("the server does not speak TLS"), Hint: "check the port"}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return &Error{Code: CodeResolve, Cause: fmt.Errorf("cannot resolve %s: %s", dns.Name, dns.Err), Retryable: true}
	}
	if e := classifyTransport(err); e != nil {
		return e
	}
	// What is left is ours: crypto/tls has no type for "the server chose a version that we do not take".
	return &Error{Code: CodeTLS, Cause: err}
}

func classifyCertificate(err error, now time.Time) *Error {
	if errors.Is(err, errPin) {
		return &Error{Code: CodePin, Cause: err, Hint: "if the server was given a new key on purpose, set the new pin"}
	}
	if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if inv.Reason != x509.Expired || inv.Cert == nil {
			return &Error{Code: CodeTLS, Cause: fmt.Errorf("certificate is not valid: %w", inv)}
		}
		if now.Before(inv.Cert.NotBefore) {
			return &Error{
				Code:      CodeTLSNotYet,
				Cause:     fmt.Errorf("certificate is not yet valid: it is from %s, this clock says %s", day(inv.Cert.NotBefore, now), day(now, inv.Cert.NotBefore)),
				Hint:      "set this machine's clock",
				Retryable: true, // the clock may be set any moment
				Clock:     true,
			}
		}
		return &Error{
			Code:  CodeTLSExpired,
			Cause: fmt.Errorf("certificate has expired on %s by this clock (%s)", day(inv.Cert.NotAfter, now), day(now, inv.Cert.NotAfter)),
			Hint:  "renew it on the server, or set this machine's clock",
			Clock: true,
		}
	}
	if ua, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &Error{Code: CodeTLSCA, Cause: fmt.Errorf("certificate is not signed by a configured CA%s", issuer(ua.Cert)), Hint: "add the CA that signed it to the bundle, if it is the right one"}
	}
	if hn, ok := errors.AsType[x509.HostnameError](err); ok {
		return &Error{Code: CodeTLSName, Cause: fmt.Errorf("certificate is for another server: %w", hn), Hint: "set server-name if the server is known by that name"}
	}
	if cv, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &Error{Code: CodeTLS, Cause: cv}
	}
	return nil
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf(" (issuer %q)", c.Issuer.String())
}

// remoteAlert gives the number of a TLS alert that the peer sent.
func remoteAlert(err error) (uint8, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

func classifyAlert(alert uint8, id *identity, now time.Time) *Error {
	name := tls.AlertError(alert).Error()
	switch alert {
	case alertProtocolVersion:
		return &Error{Code: CodeTLSVersion, Cause: errors.New("no TLS version in common: 1.2 and 1.3 are offered"), Hint: tooOldHint}
	case alertUnrecognizedName:
		return &Error{Code: CodeTLSName, Cause: errors.New("the server does not know the name that it was asked for"), Hint: "set server-name"}
	case alertHandshakeFailure: // with TLS 1.2 also what a server says that has no cipher in common with us
		if id != nil && id.client != nil {
			return &Error{Code: CodeTLS, Cause: fmt.Errorf("the server ended the TLS handshake (%s)", name), Hint: "it has no cipher in common with us, or does not take our client certificate"}
		}
		return refusedClient(fmt.Errorf("the server ended the TLS handshake (%s)", name), id, now)
	case alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked, alertCertificateExpired,
		alertCertificateUnknown, alertUnknownCA, alertAccessDenied, alertDecryptError, alertCertificateRequired:
		return refusedClient(fmt.Errorf("the server refused our client certificate (%s)", name), id, now)
	}
	return &Error{Code: CodeTLS, Cause: fmt.Errorf("the server ended the TLS handshake (%s)", name)}
}

func refusedClient(cause error, id *identity, now time.Time) *Error {
	e := &Error{Code: CodeTLSClientRefused, Cause: cause, Hint: clientHint(id, now)}
	if id != nil && id.client != nil {
		e.Clock = now.After(id.client.NotAfter) || now.Before(id.client.NotBefore)
	}
	return e
}

// clientHint looks for what a server may dislike about our certificate.
func clientHint(id *identity, now time.Time) string {
	if id == nil || id.client == nil {
		return "configure a client certificate: the server wants one"
	}
	c := id.client
	switch {
	case now.After(c.NotAfter):
		return fmt.Sprintf("it has expired on %s by this clock (%s): renew it", day(c.NotAfter, now), day(now, c.NotAfter))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("it is valid from %s, this clock says %s: set this machine's clock", day(c.NotBefore, now), day(now, c.NotBefore))
	case !allowsClientAuth(c):
		return "it does not allow client authentication (extended key usage clientAuth): have it issued for that"
	}
	return fmt.Sprintf("have the server trust its issuer (%q), and register this client there", c.Issuer.String())
}

// allowsClientAuth: a certificate without the extension may be used for
// anything (RFC 5280, section 4.2.1.12), but servers differ, so only a
// certificate that says clientAuth counts as one that nobody can refuse for this.
func allowsClientAuth(c *x509.Certificate) bool {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

func classifyTransport(err error) *Error {
	var errno syscall.Errno
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNRESET): // also of a server that closed before it had read all of ours
		return &Error{Code: CodeClosed, Cause: errors.New("the server reset the connection"), Retryable: true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.EPIPE):
		return &Error{Code: CodeClosed, Cause: errors.New("the server closed the connection"), Retryable: true}
	case errors.As(err, &errno) && errno != syscall.ETIMEDOUT:
		return &Error{Code: CodeDial, Cause: errno, Retryable: true}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), isNet && netErr.Timeout():
		return &Error{Code: CodeTimeout, Cause: context.DeadlineExceeded, Retryable: true}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeCancelled, Cause: context.Canceled, Retryable: true}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return &Error{Code: CodeDial, Cause: op.Err, Retryable: true}
	}
	return nil
}
