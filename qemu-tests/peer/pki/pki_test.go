package pki

import (
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrongWithACertificateIsWhatWasAskedFor(t *testing.T) {
	good, err := NewCA("good", Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCA("other", Options{})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		issue func() (*Pair, error)
		host  string
		usage x509.ExtKeyUsage
		want  string
	}{
		{"a server's certificate names its DNS name", func() (*Pair, error) { return good.Server(Options{}, "kms.example.net", "192.0.2.1") }, "kms.example.net", x509.ExtKeyUsageServerAuth, ""},
		{"a server's certificate names its address", func() (*Pair, error) { return good.Server(Options{}, "kms.example.net", "192.0.2.1") }, "192.0.2.1", x509.ExtKeyUsageServerAuth, ""},
		{"a client's certificate allows client authentication", func() (*Pair, error) { return good.Client(Options{}, "c") }, "", x509.ExtKeyUsageClientAuth, ""},
		{"an expired one has expired", func() (*Pair, error) { return good.Client(Expired(), "c") }, "", x509.ExtKeyUsageClientAuth, "expired"},
		{"one for tomorrow is not valid yet", func() (*Pair, error) { return good.Client(NotYet(), "c") }, "", x509.ExtKeyUsageClientAuth, "expired"},
		{"one of another authority is not trusted", func() (*Pair, error) { return other.Client(Options{}, "c") }, "", x509.ExtKeyUsageClientAuth, "authority"},
		{"one for servers is none for clients", func() (*Pair, error) { return good.Server(Options{}, "s") }, "", x509.ExtKeyUsageClientAuth, "usage"},
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(good.PEM)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pair, err := c.issue()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pair.TLS(); err != nil {
				t.Fatalf("certificate and key do not belong together: %v", err)
			}
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.usage}, CurrentTime: time.Now()})
			if diff := cmp.Diff(c.want, kind(err)); diff != "" {
				t.Errorf("verdict (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestAddressesAndNamesAreToldApart(t *testing.T) {
	ca, err := NewCA("ca", Options{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(Options{NoEKU: true}, "a.example", "2001:db8::1", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.example"}, pair.Leaf.DNSNames); diff != "" {
		t.Error(diff)
	}
	if got := pair.Leaf.IPAddresses; len(got) != 2 || !got[0].Equal(net.ParseIP("2001:db8::1")) || !got[1].Equal(net.ParseIP("192.0.2.1")) {
		t.Errorf("addresses %v", got)
	}
	if len(pair.Leaf.ExtKeyUsage) != 0 {
		t.Errorf("usages %v, want none", pair.Leaf.ExtKeyUsage)
	}
}

func kind(err error) string {
	switch e := err.(type) {
	case nil:
		return ""
	case x509.UnknownAuthorityError:
		return "authority"
	case x509.CertificateInvalidError:
		switch e.Reason {
		case x509.Expired:
			return "expired"
		case x509.IncompatibleUsage:
			return "usage"
		}
	}
	return err.Error()
}
