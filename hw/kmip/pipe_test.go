package kmip

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"
)

// network is a network of pipes for tests in virtual time: what a dial of an
// address brings is up to its host.
type network struct {
	t       *testing.T
	hosts   map[string]host
	names   map[string][]string
	cert    Source
	key     KeySource
	ca      Source
	server  tls.Certificate
	started time.Time

	mu    sync.Mutex
	dials []dialed // guarded by mu
}

type dialed struct {
	Address string
	At      time.Duration
}

type host func(ctx context.Context) (net.Conn, error)

func newNetwork(t *testing.T) *network {
	n := &network{t: t, hosts: map[string]host{}, started: time.Now()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"kms"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	n.ca, n.cert = Source{PEM: string(certPEM)}, Source{PEM: string(certPEM)}
	n.key = KeySource{PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
	if n.server, err = tls.X509KeyPair(certPEM, n.key.PEM); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *network) config(servers ...string) Config {
	var cfg Config
	for i := 0; i < len(servers); i += 2 {
		cfg.Servers = append(cfg.Servers, Server{Name: servers[i], Address: servers[i+1], ServerName: "kms", TLS: TLS{CA: n.ca, Cert: n.cert, Key: n.key}})
	}
	return cfg
}

func (n *network) client(cfg Config) *Client {
	c, err := New(cfg, WithDial(n.dial), WithResolve(n.resolve))
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, dialed{address, time.Since(n.started)})
	n.mu.Unlock()
	h, ok := n.hosts[address]
	if !ok {
		return refused(ctx)
	}
	return h(ctx)
}

func refused(context.Context) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// dropping is a host whose packets are lost.
func dropping(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
}

// from is one host before a moment and another one after.
func (n *network) from(at time.Duration, before, after host) host {
	return func(ctx context.Context) (net.Conn, error) {
		if time.Since(n.started) < at {
			return before(ctx)
		}
		return after(ctx)
	}
}

// keyServer is a host that holds one object for every unique id; answers passes each message first.
func (n *network) keyServer(pass func(*kmipgo.RequestMessage) bool) host {
	return n.keyServerOver(func(c net.Conn) net.Conn { return c }, pass)
}

// dripping writes a byte a second, as long as on is set.
type dripping struct {
	net.Conn
	on *atomic.Bool
}

func (d dripping) Write(p []byte) (int, error) {
	if !d.on.Load() {
		return d.Conn.Write(p)
	}
	for i := range p {
		time.Sleep(time.Second) // virtual
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// keyServerOver is keyServer with something between TLS and the network.
func (n *network) keyServerOver(over func(net.Conn) net.Conn, pass func(*kmipgo.RequestMessage) bool) host {
	exec := kmipserver.NewBatchExecutor()
	exec.Route(kmipgo.OperationGetAttributes, kmipserver.HandleFunc(func(_ context.Context, r *payloads.GetAttributesRequestPayload) (*payloads.GetAttributesResponsePayload, error) {
		return &payloads.GetAttributesResponsePayload{UniqueIdentifier: r.UniqueIdentifier}, nil
	}))
	exec.Route(kmipgo.OperationGet, kmipserver.HandleFunc(func(_ context.Context, r *payloads.GetRequestPayload) (*payloads.GetResponsePayload, error) {
		return &payloads.GetResponsePayload{ObjectType: kmipgo.ObjectTypeOpaqueObject, UniqueIdentifier: r.UniqueIdentifier, Object: &kmipgo.OpaqueObject{OpaqueDataType: 1, OpaqueDataValue: []byte(r.UniqueIdentifier)}}, nil
	}))
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			conn := tls.Server(over(theirs), &tls.Config{Certificates: []tls.Certificate{n.server}})
			defer theirs.Close()
			stream := ttlv.NewStream(conn, 1<<20)
			for {
				var req kmipgo.RequestMessage
				if err := stream.Recv(&req); err != nil {
					return
				}
				if pass != nil && !pass(&req) {
					continue
				}
				if err := stream.Send(exec.HandleRequest(context.Background(), &req)); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}
}
