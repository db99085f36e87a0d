package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"initd/v2v/job/broker"
)

// Server says which queue, and how to prove who one is. The words are NATS' own.
type Server struct {
	// URL is nats://HOST:PORT or tls://HOST:PORT, several separated by commas. Empty: the queue of this machine.
	URL string
	// Dir is where the queue of this machine lives.
	Dir string
	// Credentials is a .creds file, Nkey a file with a seed, User and PasswordFile or TokenFile the older ways. At most one of them.
	Credentials, Nkey, User, PasswordFile, TokenFile string
	// CA, Certificate and Key are PEM files of TLS.
	CA, Certificate, Key string
	// Replicas is how many servers hold each record; 0 is 3 in a cluster of three or more, and 1 otherwise.
	Replicas int
	// Log hears what the connection goes through, one line a call; nil is nobody.
	Log func(string) `json:"-"`
}

// Connect reaches a queue and makes its bucket if there is none. For the queue of this machine, this process becomes its server
// until ctx is done or the queue is closed, unless another one is.
func Connect(ctx context.Context, s Server) (_ *Queue, err error) {
	if strings.Contains(s.URL, "@") {
		return nil, errors.New("the queue's address holds a user or a token, which everybody sees with ps: give --user with --password-file, or --token-file")
	}
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	url := s.URL
	leave := func() {}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	if url == "" {
		var endpoint broker.Endpoint
		if endpoint, leave, err = serveHere(ctx, s); err != nil {
			return nil, err
		}
		key, err := nats.NkeyOptionFromSeed(endpoint.Seed)
		if err != nil {
			return nil, fmt.Errorf("the key of this machine's queue: %w", err)
		}
		url, opts = endpoint.URL, append(opts, key)
	}
	conn, err := dial(ctx, url, opts, s.say)
	if err != nil {
		return nil, fmt.Errorf("connect to the queue at %s: %w", url, err)
	}
	q, err := bind(ctx, conn, s.Replicas)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the queue at %s: %w", url, err)
	}
	q.leave = leave
	return q, nil
}

// serveHere waits its turn as the server of this machine, in the background; leave ends that, and returns when all is on disk.
func serveHere(ctx context.Context, s Server) (_ broker.Endpoint, leave func(), err error) {
	endpoint, err := broker.Prepare(s.Dir)
	if err != nil {
		return broker.Endpoint{}, func() {}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := broker.Serve(ctx, broker.Options{Dir: s.Dir, Log: s.Log}, nil)
		if err != nil && ctx.Err() == nil && s.Log != nil {
			s.Log(err.Error())
		}
	}()
	return endpoint, func() { cancel(); <-ended }, nil
}

// dial repeats a connection that is refused: the server may be about to start, here or there.
func dial(ctx context.Context, url string, opts []nats.Option, say func(string)) (*nats.Conn, error) {
	const most = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	wait, told := 5*time.Millisecond, false
	for {
		conn, err := nats.Connect(url, opts...)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
			return nil, fmt.Errorf("%w; see the key or credentials that were given", err)
		}
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) {
			return nil, err
		}
		if wait >= time.Second && !told {
			told = true
			say(fmt.Sprintf("nobody answers at %s; trying for %v", url, most))
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("nobody answered for %v: %w; see whether a NATS server runs there", most, err)
			}
			return nil, context.Cause(ctx)
		}
	}
}

func (s Server) say(text string) {
	if s.Log != nil {
		s.Log(text)
	}
}

func (s Server) options() ([]nats.Option, error) {
	say := s.say
	opts := []nats.Option{
		nats.Name("v2v"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.Timeout(5 * time.Second), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				say("the connection to the queue is lost: " + err.Error())
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { say("the queue is reached again: " + c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { say("queue: " + err.Error()) }),
	}
	ways := 0
	add := func(given string, option func() (nats.Option, error)) error {
		if given == "" {
			return nil
		}
		if ways++; ways > 1 {
			return errors.New("give one of credentials, nkey, user and token")
		}
		o, err := option()
		opts = append(opts, o)
		return err
	}
	err := errors.Join(
		add(s.Credentials, func() (nats.Option, error) { return nats.UserCredentials(s.Credentials), readable(s.Credentials) }),
		add(s.Nkey, func() (nats.Option, error) { return nats.NkeyOptionFromSeed(s.Nkey) }),
		add(s.User, func() (nats.Option, error) { return s.password() }),
		add(s.TokenFile, func() (nats.Option, error) {
			return nats.TokenHandler(func() string { t, _ := line(s.TokenFile); return t }), readable(s.TokenFile)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the queue: %w", err)
	}
	if s.CA != "" {
		opts = append(opts, nats.RootCAs(s.CA))
	}
	if s.Certificate != "" || s.Key != "" {
		opts = append(opts, nats.ClientCert(s.Certificate, s.Key))
	}
	return opts, nil
}

func (s Server) password() (nats.Option, error) {
	if err := readable(s.PasswordFile); err != nil {
		return nil, err
	}
	return nats.UserInfoHandler(func() (string, string) {
		p, _ := line(s.PasswordFile)
		return s.User, p
	}), nil
}

// bind makes the bucket or finds it.
func bind(ctx context.Context, conn *nats.Conn, replicas int) (*Queue, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	q := &Queue{conn: conn}
	tries := []int{replicas}
	if replicas == 0 {
		tries = []int{3, 1}
	}
	err = q.again(ctx, func(ctx context.Context) error {
		var err error
		if q.kv, err = js.KeyValue(ctx, bucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
			return err
		}
		for _, n := range tries {
			q.kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, Description: "v2v jobs", History: 1, Replicas: n, MaxValueSize: maxRecord})
			if err == nil || passing(err) {
				return err
			}
			if errors.Is(err, jetstream.ErrBucketExists) { // another one was quicker, with another number of replicas
				q.kv, err = js.KeyValue(ctx, bucket)
				return err
			}
		}
		return err
	})
	return q, err
}
