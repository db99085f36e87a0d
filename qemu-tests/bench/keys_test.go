package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipclient"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
	"github.com/ovh/kmip-go/ttlv"

	"initd/hw/kmip"
	"initd/qemu-tests/peer/pki"
)

const (
	// keys is how many are fetched in a round.
	keys = 1000
	// delay is what a round trip takes longer by in the second half.
	delay = 20 * time.Millisecond
	// dials is how many of the keys are fetched by a connection each; the time is multiplied.
	dials = 50
)

// 1,000 keys by their unique ids from kmip-go's server, on loopback and with 20 ms of delay. Ours is what a boot does: one
// connection, DiscoverVersions, the attributes of all keys (is it active? is it ours?) and the keys, in batches of 64. Theirs
// is kmip-go's client with one Get after the other and no attributes, first on one connection that is kept, then by a
// connection each, as scripts do. Dials and handshakes count for all.
//
// What no client can be faster than is what the server itself needs for those messages, without a network: the last row.
func BenchmarkKeys(b *testing.B) {
	s := newKeyServer(b)
	var rows []row
	for _, way := range []struct {
		name    string
		address string
		rounds  int
	}{{"loopback", s.address, 9}, {"20 ms a round trip", delayed(b, s.address, delay/2), 3}} {
		var ours, kept, each times
		for range way.rounds {
			ours = append(ours, took(func() { s.batches(b, way.address) }))
			kept = append(kept, took(func() { s.oneByOne(b, way.address) }))
			each = append(each, keys/dials*took(func() { s.connectionEach(b, way.address) }))
		}
		rows = append(rows,
			faster(way.name+": one Get at a time on one connection", ours, kept, 5),
			faster(way.name+": one connection a Get", ours, each, 5))
	}
	var loopback, alone times
	messages := s.messages()
	for range 9 {
		loopback = append(loopback, took(func() { s.batches(b, s.address) }))
		alone = append(alone, took(func() { s.alone(b, messages) }))
	}
	rows = append(rows, compared("the server's own work for our messages, without a network", loopback, alone))
	show(b, "1,000 keys over KMIP; ours: one connection, batches of 64, attributes checked", rows...)
}

func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// keyServer serves keys by kmip-go's codec and executor, without accounting.
type keyServer struct {
	address string
	ca      *pki.CA
	client  *pki.Pair
	tls     *tls.Config // of a client
	values  map[string][]byte
	ids     []string
}

func newKeyServer(b *testing.B) *keyServer {
	b.Helper()
	ca, err := pki.NewCA("bench", pki.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server, err := ca.Server(pki.Options{}, "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	s := &keyServer{ca: ca, values: map[string][]byte{}}
	if s.client, err = ca.Client(pki.Options{}, "store"); err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	pair := func(p *pki.Pair) []tls.Certificate {
		c, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			b.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	s.tls = &tls.Config{RootCAs: pool, Certificates: pair(s.client), MinVersion: tls.VersionTLS12}
	for i := range keys {
		id, key := fmt.Sprintf("id-%04d", i), make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			b.Fatal(err)
		}
		s.ids, s.values[id] = append(s.ids, id), key
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: pair(server), ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	s.address = listener.Addr().String()
	go s.accept(listener)
	return s
}

func (s *keyServer) executor() *kmipserver.BatchExecutor {
	exec := kmipserver.NewBatchExecutor()
	exec.Route(kmipgo.OperationGetAttributes, kmipserver.HandleFunc(s.attributes))
	exec.Route(kmipgo.OperationGet, kmipserver.HandleFunc(s.get))
	return exec
}

// messages are the requests of a boot, encoded: the attributes of all keys, and the keys, in batches of 64.
func (s *keyServer) messages() [][]byte {
	var messages [][]byte
	for ids := range slices.Chunk(s.ids, 64) {
		var attributes, gets []kmipgo.OperationPayload
		for _, id := range ids {
			attributes = append(attributes, &payloads.GetAttributesRequestPayload{UniqueIdentifier: id, AttributeName: []kmipgo.AttributeName{
				kmipgo.AttributeNameObjectType, kmipgo.AttributeNameState, kmipgo.AttributeNameInitialDate}})
			gets = append(gets, &payloads.GetRequestPayload{UniqueIdentifier: id})
		}
		for _, batch := range [][]kmipgo.OperationPayload{attributes, gets} {
			m := kmipgo.NewRequestMessage(kmipgo.V1_4, batch...)
			messages = append(messages, ttlv.MarshalTTLV(&m))
		}
	}
	return messages
}

// alone is what the server does with messages once they are in its memory.
func (s *keyServer) alone(b *testing.B, messages [][]byte) {
	exec := s.executor()
	for _, m := range messages {
		var req kmipgo.RequestMessage
		if err := ttlv.UnmarshalTTLV(m, &req); err != nil {
			b.Fatal(err)
		}
		resp := exec.HandleRequest(b.Context(), &req)
		if resp.Header.BatchCount == 0 || resp.BatchItem[0].ResultStatus != kmipgo.ResultStatusSuccess {
			b.Fatal("the server did not take the batch")
		}
		ttlv.MarshalTTLV(resp)
	}
}

func (s *keyServer) accept(listener net.Listener) {
	exec := s.executor()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			stream := ttlv.NewStream(conn, ttlv.DefaultMaxMessageSize)
			for {
				var req kmipgo.RequestMessage
				if err := stream.Recv(&req); err != nil {
					return
				}
				if _, err := conn.Write(ttlv.MarshalTTLV(exec.HandleRequest(context.Background(), &req))); err != nil {
					return
				}
			}
		}()
	}
}

func (s *keyServer) attributes(_ context.Context, req *payloads.GetAttributesRequestPayload) (*payloads.GetAttributesResponsePayload, error) {
	resp := &payloads.GetAttributesResponsePayload{UniqueIdentifier: req.UniqueIdentifier}
	for _, n := range req.AttributeName {
		switch n {
		case kmipgo.AttributeNameObjectType:
			resp.Attribute = append(resp.Attribute, kmipgo.Attribute{AttributeName: n, AttributeValue: kmipgo.ObjectTypeSymmetricKey})
		case kmipgo.AttributeNameState:
			resp.Attribute = append(resp.Attribute, kmipgo.Attribute{AttributeName: n, AttributeValue: kmipgo.StateActive})
		case kmipgo.AttributeNameInitialDate:
			resp.Attribute = append(resp.Attribute, kmipgo.Attribute{AttributeName: n, AttributeValue: time.Unix(1_700_000_000, 0)})
		}
	}
	return resp, nil
}

func (s *keyServer) get(_ context.Context, req *payloads.GetRequestPayload) (*payloads.GetResponsePayload, error) {
	key, ok := s.values[req.UniqueIdentifier]
	if !ok {
		return nil, kmipserver.ErrItemNotFound
	}
	return &payloads.GetResponsePayload{ObjectType: kmipgo.ObjectTypeSymmetricKey, UniqueIdentifier: req.UniqueIdentifier,
		Object: &kmipgo.SymmetricKey{KeyBlock: kmipgo.KeyBlock{KeyFormatType: kmipgo.KeyFormatTypeRaw, CryptographicAlgorithm: kmipgo.CryptographicAlgorithmAES,
			CryptographicLength: 256, KeyValue: &kmipgo.KeyValue{Plain: &kmipgo.PlainKeyValue{KeyMaterial: kmipgo.KeyMaterial{Bytes: &key}}}}}}, nil
}

// batches is ours.
func (s *keyServer) batches(b *testing.B, address string) {
	requests := make([]kmip.Request, keys)
	for i, id := range s.ids {
		requests[i] = kmip.Request{Selector: kmip.Selector{UniqueID: id}}
	}
	cfg := kmip.Config{Servers: []kmip.Server{{Name: "kms", Address: address, TLS: kmip.TLS{
		CA: kmip.Source{PEM: string(s.ca.PEM)}, Cert: kmip.Source{PEM: string(s.client.Cert)}, Key: kmip.KeySource{PEM: s.client.Key},
	}}}}
	for i, r := range kmip.Fetch(b.Context(), cfg, requests, nil) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
		s.same(b, s.ids[i], r.Keys[0].Secret.Bytes())
		r.Keys[0].Secret.Destroy()
	}
}

func (s *keyServer) dial(b *testing.B, address string) *kmipclient.Client {
	c, err := kmipclient.Dial(address, kmipclient.WithTlsConfig(s.tls.Clone()))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (s *keyServer) getOne(b *testing.B, c *kmipclient.Client, id string) {
	resp, err := c.Get(id).ExecContext(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	key, ok := resp.Object.(*kmipgo.SymmetricKey)
	if !ok {
		b.Fatalf("the object is a %T", resp.Object)
	}
	s.same(b, id, *key.KeyBlock.KeyValue.Plain.KeyMaterial.Bytes)
}

func (s *keyServer) oneByOne(b *testing.B, address string) {
	c := s.dial(b, address)
	defer c.Close()
	for _, id := range s.ids {
		s.getOne(b, c, id)
	}
}

func (s *keyServer) connectionEach(b *testing.B, address string) {
	for _, id := range s.ids[:dials] {
		c := s.dial(b, address)
		s.getOne(b, c, id)
		c.Close()
	}
}

func (s *keyServer) same(b *testing.B, id string, got []byte) {
	if string(got) != string(s.values[id]) {
		b.Fatalf("the key %s came changed", id)
	}
}
