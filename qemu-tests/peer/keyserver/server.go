package keyserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Server is a running server.
type Server struct {
	config Config
	store  *store
	tls    *tls.Config
	emit   func(Event)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	spoilt atomic.Int64 // answers; see Faults.Times

	mu       sync.Mutex
	listener net.Listener          // guarded by mu; nil until it listens
	conns    map[net.Conn]struct{} // guarded by mu
}

// Start starts a server. Unless it is a late one it listens when Start
// returns. emit hears every event, one at a time.
func Start(cfg Config, emit func(Event)) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("key server %q: %w", cfg.Name, err)
	}
	var one sync.Mutex
	serial := func(e Event) {
		one.Lock()
		defer one.Unlock()
		emit(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		config: cfg,
		store:  &store{server: cfg.Name, rules: cfg.Behaviour, objects: cfg.Objects, emit: serial},
		tls:    tlsConfig,
		emit:   serial,
		ctx:    ctx,
		cancel: cancel,
		conns:  map[net.Conn]struct{}{},
	}
	if cfg.Late <= 0 {
		if err := s.listen(); err != nil {
			cancel()
			return nil, err
		}
		return s, nil
	}
	s.wg.Go(s.listenLate)
	return s, nil
}

func (s *Server) listenLate() {
	timer := time.NewTimer(seconds(s.config.Late))
	defer timer.Stop()
	select {
	case <-s.ctx.Done():
	case <-timer.C:
		if err := s.listen(); err != nil {
			s.emit(Event{Event: "kmip", Op: "error", Server: s.config.Name, Reason: err.Error()})
		}
	}
}

// listen: an address that is still in duplicate address detection is freebind-ed by the caller's waiting for it.
func (s *Server) listen() error {
	ln, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("key server %q: %w", s.config.Name, err)
	}
	s.mu.Lock()
	s.listener = ln
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		_ = ln.Close()
		return s.ctx.Err()
	}
	s.emit(Event{Event: "kmip", Op: "listen", Server: s.config.Name})
	s.wg.Go(func() { s.accept(ln) })
	return nil
}

// Addr is where the server listens, or "" while a late one does not yet.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Close ends the server and its connections, and waits for both.
func (s *Server) Close() {
	s.cancel()
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// HangUp closes every open connection and goes on listening.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *Server) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.store.tell("accept", "")
		s.wg.Go(func() {
			defer func() {
				_ = conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			}()
			s.serve(conn)
		})
	}
}

func (s *Server) serve(raw net.Conn) {
	if s.config.Silent {
		<-s.ctx.Done()
		return
	}
	if s.config.BareHello != "" {
		s.sayHello(raw)
		return
	}
	idle := func() { s.emit(Event{Event: "kmip", Op: "idle", Server: s.config.Name}) }
	conn := tls.Server(&watched{Conn: raw, idle: seconds(s.config.IdleClose), tired: idle}, s.tls)
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.emit(Event{Event: "kmip", Op: "refused", Server: s.config.Name, Reason: err.Error()})
		return
	}
	line := s.newLine(conn, raw)
	if s.config.Refuse == RefuseHangUp {
		s.emit(Event{Event: "kmip", Op: "refused", Server: s.config.Name, Reason: "no client is welcome"})
		return
	}
	if s.config.Kind == KindBytes {
		(&speaker{store: s.store, rules: s.config.Behaviour, line: line}).serve(conn)
		return
	}
	s.serveKMIPGo(conn, line)
}

// watched closes a connection on which nothing arrives for some time.
type watched struct {
	net.Conn
	idle  time.Duration
	tired func() // hears when it is closed for idleness
}

func (w *watched) Read(p []byte) (int, error) {
	if w.idle > 0 {
		if err := w.Conn.SetReadDeadline(time.Now().Add(w.idle)); err != nil {
			return 0, err
		}
	}
	n, err := w.Conn.Read(p)
	if w.idle > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = w.Conn.Close()
		w.tired()
	}
	return n, err
}

func (c Config) tlsConfig() (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, errors.New("no certificate in ca")
	}
	t := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	if c.MaxTLS != "" {
		version, err := tlsVersion(c.MaxTLS)
		if err != nil {
			return nil, err
		}
		t.MaxVersion, t.MinVersion = version, min(t.MinVersion, version)
	}
	if c.Refuse == RefuseAlert {
		t.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no client is welcome") }
	}
	if c.RequireEKU {
		t.VerifyConnection = func(cs tls.ConnectionState) error {
			if !slices.Contains(cs.PeerCertificates[0].ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
				return errors.New("the client certificate does not name clientAuth")
			}
			return nil
		}
	}
	return t, nil
}
