package api

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAskPassesADescriptorAndAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	path := filepath.Join(t.TempDir(), "api.sock")
	if _, err := Ask(ctx, path, Request{Op: OpPing}, nil); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("Ask without a server: got %v, want ErrNotRunning", err)
	}
	served := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	got := ""
	go func() {
		served <- Serve(serving, path, func(_ context.Context, r Request, f *os.File) (string, error) {
			if r.Op == OpFeedKey {
				b, err := io.ReadAll(f)
				got = string(b)
				return "fed " + r.Name, err
			}
			return "", errors.New("no such operation")
		})
	}()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("value"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var a Answer
	for err = ErrNotRunning; errors.Is(err, ErrNotRunning); { // its file is there a moment before anybody listens
		select {
		case err := <-served:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
			a, err = Ask(ctx, path, Request{Op: OpFeedKey, Name: "tank0"}, r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := (Answer{OK: true, Message: "fed tank0"}); a != want || got != "value" {
		t.Errorf("got %+v with %q, want %+v with \"value\"", a, got, want)
	}
	a, err = Ask(ctx, path, Request{Op: "nonsense"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Answer{Message: "no such operation"}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
