package kmip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

// ServerReport is what a probe found out about one server.
type ServerReport struct {
	Name    string `json:"name"`
	Group   string `json:"group,omitempty"`
	Address string `json:"address"`
	// Reachable: something answered on TCP, even if the conversation failed later.
	Reachable bool `json:"reachable"`
	// TLSVersion is "TLS 1.2" or "TLS 1.3".
	TLSVersion string       `json:"tlsVersion,omitempty"`
	ServerCert *Certificate `json:"serverCert,omitempty"`
	ClientCert *Certificate `json:"clientCert,omitempty"`
	// KMIPVersion was agreed; KMIPVersions are all that both sides speak.
	KMIPVersion  string   `json:"kmipVersion,omitempty"`
	KMIPVersions []string `json:"kmipVersions,omitempty"`
	// Vendor is what the server calls itself, if it does.
	Vendor string `json:"vendor,omitempty"`
	Err    *Error `json:"error,omitempty"`
}

// Certificate is what people want to know of one.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Pin is the SHA-256 of the public key; see TLS.Pin.
	Pin string `json:"pin"`
}

func describeCertificate(c *x509.Certificate) *Certificate {
	if c == nil {
		return nil
	}
	return &Certificate{Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Pin: Pin(c)}
}

// Probe connects to one server by name and reports on it; it asks about no
// object. A connection that works is kept for the next call.
func (c *Client) Probe(ctx context.Context, server string) ServerReport {
	for _, e := range c.endpoints {
		if e.server.Name == server {
			return c.probe(ctx, e)
		}
	}
	return ServerReport{Name: server, Err: &Error{Code: CodeConfig, Op: "connect to key server", Server: server, Cause: errors.New("no server of that name is configured")}}
}

func (c *Client) probe(ctx context.Context, e *endpoint) ServerReport {
	r := ServerReport{Name: e.server.Name, Group: e.server.Group, Address: e.server.Address}
	if e.id != nil {
		r.ClientCert = describeCertificate(e.id.client)
	}
	// A transport of its own remembers how far it came, which a failure alone does not tell.
	t := c.transport
	watch := &probeWatch{}
	t.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.transport.dial(ctx, network, address)
		if err == nil {
			watch.reached.Store(true)
		}
		return conn, err
	}
	s, err := t.connect(ctx, e.watched(watch))
	r.Reachable = watch.reached.Load()
	if cs := watch.state.Load(); cs != nil {
		r.TLSVersion = tls.VersionName(cs.Version)
		if len(cs.PeerCertificates) > 0 {
			r.ServerCert = describeCertificate(cs.PeerCertificates[0])
		}
	}
	if err != nil {
		r.Err = classify(err, e.id, time.Now())
		if r.Err.rejected != nil {
			r.ServerCert = describeCertificate(r.Err.rejected)
		}
		return r
	}
	s.endpoint = e
	r.KMIPVersion = s.version.String()
	for _, v := range s.offered {
		r.KMIPVersions = append(r.KMIPVersions, v.String())
	}
	r.Vendor, r.Err = s.vendor(ctx)
	if r.Err != nil {
		s.close()
		return r
	}
	c.checkIn(s)
	return r
}

// probeWatch is how far a connection came.
type probeWatch struct {
	reached atomic.Bool
	state   atomic.Pointer[tls.ConnectionState]
}

// watched is e with a TLS configuration that tells what it saw, once the
// server's certificate was found good: a server may refuse ours after that.
func (e *endpoint) watched(w *probeWatch) *endpoint {
	out := &endpoint{server: e.server, err: e.err}
	if e.id == nil {
		return out
	}
	config := e.id.config.Clone()
	verify := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		w.state.Store(&cs)
		if verify == nil {
			return nil
		}
		return verify(cs)
	}
	out.id = &identity{config: config, client: e.id.client}
	return out
}

// vendor asks for the server's name for itself (KMIP 1.4, section 4.25). A
// server that does not tell is none the worse.
func (s *session) vendor(ctx context.Context) (string, *Error) {
	q := &call{request: &payloads.QueryRequestPayload{QueryFunction: []kmipgo.QueryFunction{kmipgo.QueryFunctionServerInformation}}}
	if err := s.exchange(ctx, []*call{q}); err != nil {
		return "", s.endpoint.fail(s.address, classify(fmt.Errorf("query: %w", err), s.endpoint.id, time.Now()))
	}
	if p, ok := q.answer.(*payloads.QueryResponsePayload); ok {
		return p.VendorIdentification, nil
	}
	return "", nil
}
