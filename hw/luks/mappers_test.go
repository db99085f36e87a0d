//go:build !guest

package luks

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inSession runs f on a thread with a session keyring of its own.
func inSession(t *testing.T, f func(ring int) error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ring, err := joinSession()
		if err == nil {
			err = errors.Join(f(ring), leaveSession())
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestMappersFindTheKeysOfTheSessionAndNobodyElseCanJoin(t *testing.T) {
	inSession(t, func(ring int) error {
		m, err := startMappers(t.Context(), ring, 3, func(_ context.Context, ring int, w mapping) error {
			id, err := findKey(ring, w.params.KeyDescription)
			if err != nil {
				return err
			}
			return forget(ring, id)
		})
		if err != nil {
			return err
		}
		defer close(m.work)
		stranger := make(chan error)
		go func() {
			runtime.LockOSThread()
			stranger <- linkSession(ring)
		}()
		if err := <-stranger; !errors.Is(err, unix.EACCES) {
			t.Errorf("another thread may link to the keyring: %v", err)
		}
		for i := range 3 {
			p := Params{KeyDescription: describe("6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5")}
			if err := (SessionKeyring{}).Add(p.KeyDescription, []byte("payload")); err != nil {
				return err
			}
			m.work <- mapping{volume: i, params: p}
		}
		for range 3 {
			if w := <-m.done; w.err != nil {
				t.Errorf("volume %d: %v", w.volume, w.err)
			}
		}
		return nil
	})
}

// The kernel loads modules for whatever cipher a header names, and a device may not answer.
func TestAMappingThatTakesLongHoldsNoOtherUp(t *testing.T) {
	release := make(chan struct{})
	inSession(t, func(ring int) error {
		m, err := startMappers(t.Context(), ring, 4, func(_ context.Context, _ int, w mapping) error {
			if w.volume == 0 {
				<-release
			}
			return nil
		})
		if err != nil {
			return err
		}
		defer close(m.work)
		for i := range 4 {
			m.work <- mapping{volume: i}
		}
		for range 3 {
			if w := <-m.done; w.volume == 0 {
				t.Error("the one that takes long was the first")
			}
		}
		close(release)
		if w := <-m.done; w.volume != 0 {
			t.Errorf("the last was %d", w.volume)
		}
		return nil
	})
}
