package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"initd/qemu-tests/peer/config"
	"initd/qemu-tests/peer/keyserver"
	"initd/qemu-tests/peer/ntp"
	"initd/qemu-tests/peer/pki"
)

func TestAPeerRunsItsServersAndObeys(t *testing.T) {
	ca, err := pki.NewCA("ca", pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(pki.Options{}, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var told []string
	emit := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
			return
		}
		var e struct{ Event, Op, Do, Error string }
		if err := json.Unmarshal(data, &e); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		told = append(told, e.Event+" "+e.Op)
	}
	p, err := start(ctx, config.Config{
		KeyServers: []keyserver.Config{{Name: "kms-a", Listen: "127.0.0.1:0", CA: string(ca.PEM), Cert: string(pair.Cert), Key: string(pair.Key)}},
		NTP:        []ntp.Config{{Listen: "127.0.0.1:0"}},
	}, emit)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	off := false
	for _, step := range []struct {
		do   config.Command
		fail bool
	}{
		{config.Command{Do: "hang-up", Server: "kms-a"}, false},
		{config.Command{Do: "stop", Server: "kms-a"}, false},
		{config.Command{Do: "stop", Server: "kms-a"}, true},
		{config.Command{Do: "start", Server: "kms-a"}, false},
		{config.Command{Do: "start", Server: "kms-a"}, true},
		{config.Command{Do: "start", Server: "kms-z"}, true},
		{config.Command{Do: "dance"}, true},
		{config.Command{Do: "power-off"}, false},
	} {
		if err := p.obey(step.do, func() { off = true }); (err != nil) != step.fail {
			t.Errorf("%+v: %v", step.do, err)
		}
	}
	if !off {
		t.Error("it did not power off")
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"kmip listen", "ntp listen", "ready ", "kmip listen"}, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestAConfigurationWithAnUnknownKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peer.json")
	if err := os.WriteFile(path, []byte(`{"keyServer": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path); err == nil {
		t.Error("no error")
	}
}
