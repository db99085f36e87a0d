package kmip

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// identity is what one server's TLS section became.
type identity struct {
	config *tls.Config
	// client is our own leaf certificate, or nil.
	client *x509.Certificate
}

// errPin is the cause where a certificate is valid and still not the one that is pinned.
var errPin = errors.New("the server's public key is not the pinned one")

// loadIdentity reads certificates and key. The result verifies the server by
// the CAs and by nothing else, by name, and by pin where there is one.
func loadIdentity(s Server) (*identity, error) {
	host, _, err := splitAddress(s.Address)
	if err != nil {
		return nil, err
	}
	ca, err := s.TLS.CA.read()
	if err != nil {
		return nil, fmt.Errorf("CA bundle: %w", err)
	}
	pool, err := parsePool(ca)
	if err != nil {
		return nil, fmt.Errorf("CA bundle: %w", err)
	}
	pin, err := parsePin(s.TLS.Pin)
	if err != nil {
		return nil, err
	}
	id := &identity{config: &tls.Config{
		RootCAs:    pool,
		ServerName: host,
		MinVersion: tls.VersionTLS12, // KMIP 1.4 profiles, section 3.1 (Basic Authentication Suite): 1.2 at least
	}}
	if s.ServerName != "" {
		id.config.ServerName = s.ServerName
	}
	// A zone is how to reach an address, not a part of what a certificate names.
	id.config.ServerName, _, _ = strings.Cut(id.config.ServerName, "%")
	if len(pin) > 0 {
		id.config.VerifyConnection = func(cs tls.ConnectionState) error { return checkPin(cs, pin) }
	}
	if s.TLS.Cert.empty() {
		return id, nil
	}
	cert, err := loadCertificate(s.TLS)
	if err != nil {
		return nil, err
	}
	id.client = cert.Leaf
	if err := mayBeClient(cert.Leaf); err != nil {
		return nil, err
	}
	// Servers in the field list acceptable CAs that do not hold our issuer and then accept the certificate
	// all the same; crypto/tls would send none. So it is always sent and the server decides.
	id.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	return id, nil
}

// mayBeClient: a certificate that lists what it is for must be used for nothing else (RFC 5280, section 4.2.1.12), so
// nobody has to be dialled to know that one without clientAuth is refused. One that lists nothing is up to the server.
func mayBeClient(c *x509.Certificate) error {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || allowsClientAuth(c) {
		return nil
	}
	return &Error{
		Code:  CodeConfig,
		Cause: fmt.Errorf("client certificate %q is not for client authentication: its extended key usage does not name clientAuth", c.Subject.String()),
		Hint:  "have it issued for that",
	}
}

func loadCertificate(t TLS) (*tls.Certificate, error) {
	certPEM, err := t.Cert.read()
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	keyPEM, err := t.Key.read()
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	defer clear(keyPEM)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("client certificate and key: %w", err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
	}
	return &cert, nil
}

// parsePool takes every certificate of a bundle; one that cannot be read is an
// error, because during a rollover it would be missed only on the day it counts.
func parsePool(data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	n := 0
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n, err)
		}
		pool.AddCert(cert)
	}
	if n == 0 {
		return nil, errors.New("no certificate in PEM form in it")
	}
	return pool, nil
}

// Pin computes the pin of a certificate: the SHA-256 of its
// SubjectPublicKeyInfo in hex, as `openssl x509 -pubkey | openssl pkey -pubin
// -outform der | sha256sum` prints it.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// parsePin reads a pin in hex (colons allowed) or base64, with or without
// "sha256:" or "sha256/" in front. An empty string is no pin.
func parsePin(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	v := strings.TrimPrefix(strings.TrimPrefix(s, "sha256:"), "sha256/")
	if b, err := hex.DecodeString(strings.ReplaceAll(v, ":", "")); err == nil && len(b) == sha256.Size {
		return b, nil
	}
	if b, err := base64.StdEncoding.DecodeString(v); err == nil && len(b) == sha256.Size {
		return b, nil
	}
	return nil, fmt.Errorf("pin %q: want the SHA-256 of the server's public key in hex or base64", s)
}

func checkPin(cs tls.ConnectionState, pin []byte) error {
	if len(cs.PeerCertificates) == 0 {
		return errPin
	}
	sum := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if subtle.ConstantTimeCompare(sum[:], pin) != 1 {
		return fmt.Errorf("%w: it is sha256:%x", errPin, sum)
	}
	return nil
}

// day prints a moment so that two of them that differ look different.
func day(t, other time.Time) string {
	t, other = t.UTC(), other.UTC()
	if t.Format(time.DateOnly) == other.Format(time.DateOnly) {
		return t.Format(time.RFC3339)
	}
	return t.Format(time.DateOnly)
}
