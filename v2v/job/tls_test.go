package job_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"initd/v2v/job"
)

// authority makes a CA, a server's certificate for 127.0.0.1 and a client's, as PEM files.
func authority(t *testing.T) (dir string, config *tls.Config) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("ca.pem", "CERTIFICATE", der)
	for i, name := range []string{"server", "client"} {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(2 + i)), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		b, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", b)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("key.pem", "PRIVATE KEY", k)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return dir, &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
}

// serverOf starts a server with JetStream in this process.
func serverOf(t *testing.T, opts *server.Options) string {
	t.Helper()
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs = "127.0.0.1", -1, true, filepath.Join(t.TempDir(), "js"), true
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return srv.Addr().String()
}

func TestWaysToProveOneself(t *testing.T) {
	dir, config := authority(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) string {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	write("seed", string(seed))
	withTLS := serverOf(t, &server.Options{ServerName: "tls", TLSConfig: config, TLS: true, TLSVerify: true})
	withNkey := serverOf(t, &server.Options{ServerName: "nkey", Nkeys: []*server.NkeyUser{{Nkey: public}}})
	withToken := serverOf(t, &server.Options{ServerName: "token", Authorization: "s3cret token"})
	withUser := serverOf(t, &server.Options{ServerName: "user", Username: "v2v", Password: "pass word"})
	both := job.Server{CA: in("ca.pem"), Certificate: in("client.pem"), Key: in("key.pem")}
	for _, tc := range []struct {
		name, address string
		way           job.Server
		wrong         string
	}{
		{"TLS both ways", "tls://" + withTLS, both, ""},
		{"TLS without a certificate of one's own", "tls://" + withTLS, job.Server{CA: in("ca.pem")}, "tls"},
		{"TLS of an authority that is not believed", "tls://" + withTLS, job.Server{Certificate: in("client.pem"), Key: in("key.pem")}, "unknown authority"},
		{"an nkey", "nats://" + withNkey, job.Server{Nkey: in("seed")}, ""},
		{"nothing where an nkey is wanted", "nats://" + withNkey, job.Server{}, "Authorization Violation"},
		{"a token", "nats://" + withToken, job.Server{TokenFile: write("token", "s3cret token\n")}, ""},
		{"a wrong token", "nats://" + withToken, job.Server{TokenFile: write("wrong", "another")}, "Authorization Violation"},
		{"user and password", "nats://" + withUser, job.Server{User: "v2v", PasswordFile: write("password", "pass word\n")}, ""},
		{"a password in the address, which everybody sees", "nats://v2v:another@" + withUser, job.Server{}, "--password-file"},
		{"a file that is missing", "nats://" + withUser, job.Server{User: "v2v", PasswordFile: in("missing")}, "no such file"},
		{"two ways at once", "nats://" + withUser, job.Server{User: "v2v", PasswordFile: in("password"), Nkey: in("seed")}, "give one of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.way.URL = tc.address
			q, err := job.Connect(t.Context(), tc.way)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("got %v, want %q", err, tc.wrong)
				}
				for _, secret := range []string{"s3cret", "another", "pass word"} {
					if err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows a secret: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			submit(t, q, job.Spec{Kind: "append"}, work{})
			if list, err := q.List(t.Context()); err != nil || len(list) != 1 {
				t.Errorf("list: %v, %v", list, err)
			}
		})
	}
}
