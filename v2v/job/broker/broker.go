// Package broker is the queue's server of one machine: a NATS server with JetStream inside the process that first asks for it,
// reachable on loopback alone and by those who can read its key file. On many machines there is a cluster instead, and this
// package has no part.
//
// It owns the directory it is given: the store, the keys, the address. It knows no jobs.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"golang.org/x/sys/unix"
)

const (
	lockFile = "lock" // held by the process that serves
	seedFile = "client.nk"
	addrFile = "address"
	storeDir = "store"
)

// Options are what a machine's server is started with.
type Options struct {
	// Dir holds everything, mode 0700. It must be on a disk that keeps what was synced.
	Dir string
	// Log hears what the server has to say: one line a call. It may be nil.
	Log func(line string)
	// MaxStore bounds the store in bytes; 0 is 1 GiB.
	MaxStore int64
}

// Endpoint is where the server of a directory is reached.
type Endpoint struct {
	// URL is nats://127.0.0.1:PORT. The port is chosen once and kept: clients of a server that was killed find the next one there.
	URL string
	// Seed is the file with the client's nkey (0600): only its signature goes over the wire.
	Seed string
}

// Find says where the server of a directory is reached, whether or not it runs now. fs.ErrNotExist if none ever ran.
func Find(dir string) (Endpoint, error) {
	addr, err := os.ReadFile(filepath.Join(dir, addrFile))
	if err != nil {
		return Endpoint{}, fmt.Errorf("find the job queue of this machine: %w", err)
	}
	return Endpoint{URL: "nats://" + string(addr), Seed: filepath.Join(dir, seedFile)}, nil
}

// Prepare makes the directory, the keys and the address, and leaves alone those that are there. Processes may call it at the same time.
func Prepare(dir string) (Endpoint, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
	}
	guard, err := lock(filepath.Join(dir, "prepare"), unix.LOCK_EX)
	if err != nil {
		return Endpoint{}, err
	}
	defer guard.Close()
	seed := filepath.Join(dir, seedFile)
	if _, err := os.Stat(seed); errors.Is(err, os.ErrNotExist) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
		}
		text, err := pair.Seed()
		if err != nil {
			return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
		}
		if err := renameio.WriteFile(seed, text, 0o600); err != nil {
			return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
		}
		pair.Wipe()
		clear(text)
	}
	if _, err := os.Stat(filepath.Join(dir, addrFile)); errors.Is(err, os.ErrNotExist) {
		free, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
		}
		addr := free.Addr().String()
		if err := errors.Join(free.Close(), renameio.WriteFile(filepath.Join(dir, addrFile), []byte(addr), 0o600)); err != nil {
			return Endpoint{}, fmt.Errorf("prepare the job queue: %w", err)
		}
	}
	return Find(dir)
}

// Serve waits until no other process serves this directory (the kernel wakes it when that one ends, however it ends), and then
// serves it until ctx is done. serving is called once, when clients are heard; it may be nil.
func Serve(ctx context.Context, opt Options, serving func(Endpoint)) error {
	endpoint, err := Prepare(opt.Dir)
	if err != nil {
		return err
	}
	guard, err := lockOrDone(ctx, filepath.Join(opt.Dir, lockFile))
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	srv, err := start(opt, endpoint)
	if err != nil {
		return err
	}
	if serving != nil {
		serving(endpoint)
	}
	<-ctx.Done()
	srv.Shutdown()
	srv.WaitForShutdown()
	return ctx.Err()
}

// start brings a server up and waits until it hears clients.
func start(opt Options, endpoint Endpoint) (*server.Server, error) {
	seed, err := os.ReadFile(endpoint.Seed)
	if err != nil {
		return nil, fmt.Errorf("serve the job queue: %w", err)
	}
	pair, err := nkeys.FromSeed(seed)
	clear(seed)
	if err != nil {
		return nil, fmt.Errorf("serve the job queue: %s holds no nkey seed: %w; remove it, and it is made anew", endpoint.Seed, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("serve the job queue: %w", err)
	}
	addr, err := net.ResolveTCPAddr("tcp4", endpoint.URL[len("nats://"):])
	if err != nil || !addr.IP.IsLoopback() || addr.Port == 0 {
		return nil, fmt.Errorf("serve the job queue: %s is no address on loopback; remove %s, and one is chosen", endpoint.URL, filepath.Join(opt.Dir, addrFile))
	}
	maxStore := opt.MaxStore
	if maxStore == 0 {
		maxStore = 1 << 30
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "v2v-local",
		Host:       addr.IP.String(),
		Port:       addr.Port,
		Nkeys:      []*server.NkeyUser{{Nkey: public}},
		NoSigs:     true, // signals belong to the program
		JetStream:  true,
		StoreDir:   filepath.Join(opt.Dir, storeDir),
		SyncAlways: true, // a job that was accepted survives a power cut

		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  maxStore,
		NoSystemAccount:    true,
		MaxPayload:         1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("serve the job queue in %s: %w", opt.Dir, err)
	}
	logger := &lines{to: opt.Log}
	srv.SetLoggerV2(logger, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		srv.Shutdown()
		return nil, fmt.Errorf("serve the job queue at %s: %s", endpoint.URL, logger.why())
	}
	return srv, nil
}
