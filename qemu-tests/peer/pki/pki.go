// Package pki makes certificate authorities and certificates for tests, on the
// fly: ECDSA P-256, in memory, with knobs for everything that can be wrong with
// a certificate.
//
// It owns no files and keeps nothing. It is for tests only: the keys it makes
// are handed out in the clear.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Options are the knobs. The zero value is a certificate with nothing wrong.
type Options struct {
	// NotBefore and NotAfter bound the validity; zero means an hour ago, and in a year.
	NotBefore, NotAfter time.Time
	// NoEKU leaves the extended key usages out.
	NoEKU bool
	// EKU replaces the extended key usages.
	EKU []x509.ExtKeyUsage
}

// Expired is valid until yesterday.
func Expired() Options {
	return Options{NotBefore: time.Now().AddDate(0, -1, 0), NotAfter: time.Now().AddDate(0, 0, -1)}
}

// NotYet is valid from tomorrow.
func NotYet() Options {
	return Options{NotBefore: time.Now().AddDate(0, 0, 1), NotAfter: time.Now().AddDate(1, 0, 0)}
}

// CA signs certificates.
type CA struct {
	// PEM is the certificate of the authority.
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair is a certificate and its private key, in PEM.
type Pair struct {
	Cert, Key []byte
	Leaf      *x509.Certificate
}

// NewCA makes a self-signed authority.
func NewCA(name string, o Options) (*CA, error) {
	template := o.template(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	pair, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	return &CA{PEM: pair.Cert, cert: pair.Leaf, key: key}, nil
}

// Server makes a certificate for DNS names and IP addresses.
func (ca *CA) Server(o Options, names ...string) (*Pair, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("a server certificate needs a name")
	}
	template := o.template(names[0])
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	template.ExtKeyUsage = o.usages(x509.ExtKeyUsageServerAuth)
	return ca.issue(template)
}

// Client makes a certificate for a client of that name.
func (ca *CA) Client(o Options, name string) (*Pair, error) {
	template := o.template(name)
	template.ExtKeyUsage = o.usages(x509.ExtKeyUsageClientAuth)
	return ca.issue(template)
}

// TLS gives the pair as crypto/tls takes it.
func (p *Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Cert, p.Key) }

func (ca *CA) issue(template *x509.Certificate) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return sign(template, ca.cert, key, ca.key)
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		Leaf: leaf,
	}, nil
}

func (o Options) template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail since Go 1.24
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"initd tests"}},
		NotBefore:    o.NotBefore,
		NotAfter:     o.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	return t
}

func (o Options) usages(def x509.ExtKeyUsage) []x509.ExtKeyUsage {
	switch {
	case o.NoEKU:
		return nil
	case len(o.EKU) > 0:
		return o.EKU
	}
	return []x509.ExtKeyUsage{def}
}
