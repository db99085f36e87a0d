package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"initd/v2v/job/broker"
)

// serve starts a server in the background and waits until it is heard; stop ends it.
func serve(t *testing.T, dir string) (endpoint broker.Endpoint, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan broker.Endpoint, 1)
	done := make(chan error, 1)
	go func() {
		done <- broker.Serve(ctx, broker.Options{Dir: dir}, func(e broker.Endpoint) { heard <- e })
	}()
	stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("serve ended with %v", err)
		}
	}
	select {
	case endpoint = <-heard:
	case err := <-done:
		t.Fatalf("serve: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the server is not heard")
	}
	return endpoint, stop
}

func TestWhatWasStoredIsThereForTheNextServerAtTheSameAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	first, stop := serve(t, dir)
	put(t, first, "kept")
	stop()
	second, stop := serve(t, dir)
	defer stop()
	if first != second {
		t.Errorf("the address changed from %v to %v", first, second)
	}
	if got := get(t, second); got != "kept" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"client.nk", "address"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestNobodyIsServedWithoutTheKey(t *testing.T) {
	endpoint, stop := serve(t, t.TempDir())
	defer stop()
	if c, err := nats.Connect(endpoint.URL); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connected without a key: %v, %v", c, err)
	}
}

func TestASecondProcessWaitsForItsTurn(t *testing.T) {
	dir := t.TempDir()
	_, stop := serve(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	turn := make(chan bool, 1)
	done := make(chan error, 1)
	go func() {
		done <- broker.Serve(ctx, broker.Options{Dir: dir}, func(broker.Endpoint) { turn <- true })
	}()
	select {
	case <-turn:
		t.Fatal("two servers at once")
	case <-time.After(100 * time.Millisecond):
	}
	stop()
	select {
	case <-turn:
	case err := <-done:
		t.Fatalf("the second one ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the second one never served")
	}
	cancel()
	<-done
}

func connect(t *testing.T, e broker.Endpoint) jetstream.KeyValue {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(e.Seed)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nats.Connect(e.URL, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t *testing.T, e broker.Endpoint, value string) {
	t.Helper()
	if _, err := connect(t, e).PutString(t.Context(), "k", value); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, e broker.Endpoint) string {
	t.Helper()
	v, err := connect(t, e).Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return string(v.Value())
}
