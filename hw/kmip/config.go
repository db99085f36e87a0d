package kmip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// DefaultPort is the port that IANA assigned to KMIP over TLS.
const DefaultPort = 5696

// DefaultBatch is how many requests one message carries at most, unless a
// server turns out to take fewer.
const DefaultBatch = 64

// Config says which servers there are and how patient to be.
type Config struct {
	// Servers in the order of preference; within a group healthy ones go first.
	Servers []Server `json:"servers"`
	// Timing overrides the pace of dialling; zero fields take their defaults.
	Timing Timing `json:"timing,omitzero"`
	// Batch is the largest number of requests in one message; 0 means DefaultBatch.
	Batch int `json:"batch,omitempty"`
	// Health is what earlier calls learned; see Health.Observe.
	Health Health `json:"health,omitempty"`
}

// Server is one KMIP endpoint.
type Server struct {
	// Name is what people call it; unique within a Config.
	Name string `json:"name"`
	// Address is host:port: an IPv4 address, [IPv6] or a DNS name. A missing port means DefaultPort.
	Address string `json:"address"`
	// ServerName is what its certificate must be for; empty means the host of Address.
	ServerName string `json:"serverName,omitempty"`
	// Group separates tenants: a request is sent only to servers of its group. Empty is the default group.
	Group string `json:"group,omitempty"`
	// Timeout caps one TCP connect to this server instead of Timing.Attempt; 0 means none of its own.
	Timeout time.Duration `json:"timeout,omitempty"`
	TLS     TLS           `json:"tls"`
}

// TLS is the identity of a server and ours towards it.
type TLS struct {
	// CA holds one or more certificates in PEM; any of them may have signed the server's.
	CA Source `json:"ca"`
	// Cert holds the client certificate and its intermediates in PEM.
	Cert Source `json:"cert"`
	// Key holds the client's private key in PEM.
	Key KeySource `json:"key"`
	// Pin is the SHA-256 of the server's SubjectPublicKeyInfo in hex or base64;
	// it is asked for in addition to the CA. Empty means none.
	Pin string `json:"pin,omitempty"`
}

// Timing is the pace. The zero value of each field means its default.
type Timing struct {
	// Early is how long the early pace lasts, from the creation of a Client (1 m). Negative: it is over already.
	Early time.Duration `json:"early,omitempty"`
	// Attempt caps one TCP connect (1 s early, 5 s later): a lost SYN is sent again by the next attempt
	// sooner than by the kernel's own back-off of 1, 3 and 7 s.
	Attempt time.Duration `json:"attempt,omitempty"`
	// Handshake caps TLS and the KMIP version negotiation of one attempt (10 s).
	Handshake time.Duration `json:"handshake,omitempty"`
	// Resolve caps the look-up of one name (10 s).
	Resolve time.Duration `json:"resolve,omitempty"`
	// Stagger is how long an unanswered attempt may take before the next server is dialled as well (1 s).
	Stagger time.Duration `json:"stagger,omitempty"`
	// Exchange caps one request and its answer on an open connection (30 s).
	Exchange time.Duration `json:"exchange,omitempty"`
	// Backoff is the pause after the first round in which no server helped (250 ms); it doubles up to
	// BackoffMax (1 s early, 5 s later).
	Backoff    time.Duration `json:"backoff,omitempty"`
	BackoffMax time.Duration `json:"backoffMax,omitempty"`
}

const (
	laterAttempt    = 5 * time.Second
	laterBackoffMax = 10 * time.Second
	// addressStagger is the connection attempt delay of RFC 8305, section 5.
	addressStagger = 250 * time.Millisecond
)

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&t.Early, time.Minute)
	set(&t.Attempt, time.Second)
	set(&t.Handshake, 10*time.Second)
	set(&t.Resolve, 10*time.Second)
	set(&t.Stagger, time.Second)
	set(&t.Exchange, 30*time.Second)
	set(&t.Backoff, 250*time.Millisecond)
	set(&t.BackoffMax, time.Second)
	return t
}

// Validate checks what can be checked without a network or a file. All
// problems are reported, joined.
func (c Config) Validate() error {
	var errs []error
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("no key server is configured: add one"))
	}
	seen := map[string]bool{}
	for i, s := range c.Servers {
		name := s.Name
		if name == "" {
			name = "#" + strconv.Itoa(i+1)
			errs = append(errs, fmt.Errorf("key server %s has no name", name))
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("key server %q is there twice", s.Name))
		}
		seen[s.Name] = true
		if _, _, err := splitAddress(s.Address); err != nil {
			errs = append(errs, fmt.Errorf("key server %q: %w", name, err))
		}
		if s.TLS.CA.empty() {
			errs = append(errs, fmt.Errorf("key server %q: no CA: without one nobody can tell it from an impostor", name))
		}
		if s.TLS.Cert.empty() != s.TLS.Key.empty() {
			errs = append(errs, fmt.Errorf("key server %q: a client certificate and its key come together, one is missing", name))
		}
		if _, err := parsePin(s.TLS.Pin); err != nil {
			errs = append(errs, fmt.Errorf("key server %q: %w", name, err))
		}
	}
	if c.Batch < 0 {
		errs = append(errs, fmt.Errorf("batch of %d requests: must be 1 or more", c.Batch))
	}
	return errors.Join(errs...)
}

// splitAddress takes host:port, host or [v6] apart; a missing port is DefaultPort.
func splitAddress(address string) (host, port string, err error) {
	if address == "" {
		return "", "", errors.New("no address: want HOST:PORT")
	}
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		if _, ipErr := netip.ParseAddr(bare); ipErr != nil && strings.ContainsAny(bare, ":[]") {
			return "", "", fmt.Errorf("address %q: want HOST:PORT, 192.0.2.1:5696 or [2001:db8::1]:5696", address)
		}
		host, port = bare, strconv.Itoa(DefaultPort)
	}
	if host == "" {
		return "", "", fmt.Errorf("address %q has no host: want HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("address %q: port %q is not a number from 1 to 65535", address, port)
	}
	return host, port, nil
}
