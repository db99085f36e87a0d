package keyserver_test

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/pki"
)

func TestWhatIsWrongWithTLSIsSaidInWordsAndByCode(t *testing.T) {
	year := regexp.MustCompile(`\d{4}-\d{2}-\d{2}(T[0-9:]+Z)?`)
	cases := []struct {
		name   string
		change func(t *testing.T, w *world, s *kmip.Server) // what is wrong on our side
		server pki.Options                                  // what is wrong with the server's certificate
		names  []string
		b      keyserver.Behaviour
		code   kmip.Code
		want   string // with dates as DATE and the port as PORT
	}{
		{name: "an expired server certificate", server: pki.Expired(), code: kmip.CodeTLSExpired,
			want: `get key "k" from kms-a (127.0.0.1:PORT): certificate has expired on DATE by this clock (DATE): renew it on the server, or set this machine's clock`},
		{name: "a server certificate of tomorrow", server: pki.NotYet(), code: kmip.CodeTLSNotYet,
			want: `get key "k" from kms-a (127.0.0.1:PORT): certificate is not yet valid: it is from DATE, this clock says DATE: set this machine's clock`},
		{name: "a server of another CA", code: kmip.CodeTLSCA,
			change: func(t *testing.T, _ *world, s *kmip.Server) {
				s.TLS.CA.PEM = string(must(pki.NewCA("other", pki.Options{}))(t).PEM)
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): certificate is not signed by a configured CA (issuer "CN=test CA,O=initd tests"): add the CA that signed it to the bundle, if it is the right one`},
		{name: "a certificate for another name", names: []string{"kms.example.net"}, code: kmip.CodeTLSName,
			want: `get key "k" from kms-a (127.0.0.1:PORT): certificate is for another server: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs: set server-name if the server is known by that name`},
		{name: "a server that is not the pinned one", code: kmip.CodePin,
			change: func(t *testing.T, w *world, s *kmip.Server) { s.TLS.Pin = kmip.Pin(w.client.Leaf) },
			want:   `get key "k" from kms-a (127.0.0.1:PORT): the server's public key is not the pinned one: it is sha256:PIN: if the server was given a new key on purpose, set the new pin`},
		{name: "a client certificate of another CA", code: kmip.CodeTLSClientRefused,
			change: func(t *testing.T, _ *world, s *kmip.Server) {
				identify(s, must(must(pki.NewCA("other", pki.Options{}))(t).Client(pki.Options{}, "c"))(t))
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): the server refused our client certificate (tls: unknown certificate authority): have the server trust its issuer ("CN=other,O=initd tests"), and register this client there`},
		{name: "an expired client certificate", code: kmip.CodeTLSClientRefused,
			change: func(t *testing.T, w *world, s *kmip.Server) {
				identify(s, must(w.ca.Client(pki.Expired(), "c"))(t))
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): the server refused our client certificate (tls: expired certificate): it has expired on DATE by this clock (DATE): renew it`},
		{name: "a client certificate of tomorrow", code: kmip.CodeTLSClientRefused,
			change: func(t *testing.T, w *world, s *kmip.Server) {
				identify(s, must(w.ca.Client(pki.NotYet(), "c"))(t))
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): the server refused our client certificate (tls: expired certificate): it is valid from DATE, this clock says DATE: set this machine's clock`},
		{name: "a client certificate without clientAuth", b: keyserver.Behaviour{RequireEKU: true}, code: kmip.CodeTLSClientRefused,
			change: func(t *testing.T, w *world, s *kmip.Server) {
				identify(s, must(w.ca.Client(pki.Options{NoEKU: true}, "c"))(t))
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): the server refused our client certificate (tls: bad certificate): it does not allow client authentication (extended key usage clientAuth): have it issued for that`},
		{name: "no client certificate", code: kmip.CodeTLSClientRefused,
			change: func(_ *testing.T, _ *world, s *kmip.Server) { s.TLS.Cert, s.TLS.Key = kmip.Source{}, kmip.KeySource{} },
			want:   `get key "k" from kms-a (127.0.0.1:PORT): the server refused our client certificate (tls: certificate required): configure a client certificate: the server wants one`},
		{name: "a key that does not belong to the certificate", code: kmip.CodeConfig,
			change: func(t *testing.T, w *world, s *kmip.Server) {
				s.TLS.Key.PEM = must(w.ca.Client(pki.Options{}, "d"))(t).Key
			},
			want: `get key "k" from kms-a (127.0.0.1:PORT): client certificate and key: tls: private key does not match public key: mend the file, or name another one in the appliance file`},
		{name: "a CA file that is missing", code: kmip.CodeConfig,
			change: func(_ *testing.T, _ *world, s *kmip.Server) { s.TLS.CA = kmip.Source{Path: "/nonexistent/ca.pem"} },
			want:   `get key "k" from kms-a (127.0.0.1:PORT): CA bundle: open /nonexistent/ca.pem: no such file or directory: mend the file, or name another one in the appliance file`},
	}
	for _, c := range cases {
		for _, tls := range []string{"", "1.2"} {
			t.Run(c.name+" over TLS "+map[string]string{"": "1.3", "1.2": "1.2"}[tls], func(t *testing.T) {
				w := newWorld(t)
				names := c.names
				if names == nil {
					names = []string{"127.0.0.1"}
				}
				c.b.MaxTLS = tls
				s := w.serveAs(must(w.ca.Server(c.server, names...))(t), keyserver.KindBytes, "kms-a", c.b, keyserver.Object{ID: "1", Name: "k", Value: "00"})
				server := w.at("kms-a", s.Addr())
				if c.change != nil {
					c.change(t, w, &server)
				}
				client := must(kmip.New(kmip.Config{Servers: []kmip.Server{server}}))(t)
				defer client.Close()
				err := client.Lookup(guard(t), named("k"), nil)[0].Err
				if err == nil {
					t.Fatal("no error")
				}
				_, port, _ := net.SplitHostPort(s.Addr())
				text := strings.ReplaceAll(year.ReplaceAllString(err.Error(), "DATE"), ":"+port, ":PORT")
				text = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(text, "PIN")
				if tls == "1.2" { // some alerts are coarser in the older protocol
					text = strings.ReplaceAll(text, "the server ended the TLS handshake (tls: handshake failure): configure", "the server refused our client certificate (tls: certificate required): configure")
				}
				if diff := cmp.Diff([]string{string(c.code), c.want}, []string{string(err.Code), text}); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
				tellsNoSecret(t, err, w.client.Key, server.TLS.Key.PEM)
			})
		}
	}
}

func identify(s *kmip.Server, p *pki.Pair) {
	s.TLS.Cert, s.TLS.Key = kmip.Source{PEM: string(p.Cert)}, kmip.KeySource{PEM: p.Key}
}

func TestTwoCAsOverlapAndPinsAndNamesAreTaken(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		old := must(pki.NewCA("the CA of last year", pki.Options{}))(t)
		pair := must(w.ca.Server(pki.Options{}, "kms.example.net"))(t)
		s := w.serveAs(pair, kind, "kms-a", keyserver.Behaviour{}, object(0))
		server := w.at("kms-a", s.Addr())
		server.ServerName = "kms.example.net"
		server.TLS.CA.PEM = string(old.PEM) + string(w.ca.PEM)
		for _, pin := range []string{"", kmip.Pin(pair.Leaf), "sha256:" + kmip.Pin(pair.Leaf)} {
			server.TLS.Pin = pin
			results := kmip.Fetch(guard(t), kmip.Config{Servers: []kmip.Server{server}}, named(keyName(0)), nil)
			if diff := cmp.Diff([]got{{Keys: []string{string(keyValue(0))}, Server: "kms-a"}}, outcomes(t, results)); diff != "" {
				t.Errorf("pin %q (-want +got):\n%s\n%v", pin, diff, results[0].Err)
			}
		}
	})
}

func TestWhatDoesNotSpeakTLSIsSaidSo(t *testing.T) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}()
	w := newWorld(t)
	client := must(kmip.New(kmip.Config{Servers: []kmip.Server{w.at("kms-a", ln.Addr().String())}}))(t)
	defer client.Close()
	err := client.Lookup(guard(t), named("k"), nil)[0].Err
	if err == nil || err.Code != kmip.CodeTLS || !strings.Contains(err.Error(), "does not speak TLS: check the port") {
		t.Errorf("%v", err)
	}
}

func TestProbeTellsTheDatesOfBothCertificates(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		w := newWorld(t)
		end := time.Now().AddDate(0, 0, 10).UTC().Truncate(time.Second)
		good := w.serveAs(must(w.ca.Server(pki.Options{NotAfter: end}, "127.0.0.1"))(t), kind, "kms-a", keyserver.Behaviour{Vendor: "ACME", MaxTLS: "1.2", Versions: []string{"1.2", "1.1"}})
		old := w.serveAs(must(w.ca.Server(pki.Expired(), "127.0.0.1"))(t), kind, "kms-b", keyserver.Behaviour{})
		client := must(kmip.New(kmip.Config{Servers: []kmip.Server{w.at("kms-a", good.Addr()), w.at("kms-b", old.Addr())}}))(t)
		defer client.Close()
		a := client.Probe(guard(t), "kms-a")
		if a.Err != nil || !a.Reachable || a.TLSVersion != "TLS 1.2" || a.Vendor != "ACME" || a.KMIPVersion != "1.2" || !a.ServerCert.NotAfter.Equal(end) || !a.ClientCert.NotAfter.Equal(w.client.Leaf.NotAfter) {
			t.Errorf("kms-a: %+v", a)
		}
		if diff := cmp.Diff([]string{"1.2", "1.1"}, a.KMIPVersions); diff != "" {
			t.Error(diff)
		}
		b := client.Probe(guard(t), "kms-b")
		if !b.Reachable || kmip.CodeOf(b.Err) != kmip.CodeTLSExpired || b.ServerCert == nil || !b.ServerCert.NotAfter.Before(time.Now()) {
			t.Errorf("kms-b: %+v", b)
		}
		if c := client.Probe(guard(t), "kms-c"); kmip.CodeOf(c.Err) != kmip.CodeConfig {
			t.Errorf("kms-c: %+v", c)
		}
	})
}
