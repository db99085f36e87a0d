//go:build !guest

package luks

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"initd/hw/sysfs"
)

func TestASlotThatAsksForMoreThanTheMachineHasIsRefused(t *testing.T) {
	img := format(t, "--type luks2 --pbkdf argon2id "+costs)
	request := VerifyRequest{Header: img.open(t), DataSize: imageSize, Keys: keys(t, first), MemoryKiB: 65535}
	_, err := Verify(t.Context(), request)
	costly, ok := err.(*TooCostlyError)
	if !ok || costly.NeedKiB != 65536 || costly.HaveKiB != 65535 {
		t.Fatalf("got %v", err)
	}
	img.addKey(t, cheap) // another slot needs none
	request.Header, request.Keys = img.open(t), keys(t, second)
	if got, err := Verify(t.Context(), request); err != nil || got.Slot != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	request.Keys = keys(t, wrong)
	_, err = Verify(t.Context(), request)
	costly, ok = errors.AsType[*TooCostlyError](err)
	if _, none := errors.AsType[*NoMatchingKeyError](err); !ok || !none || costly.NeedKiB != 65536 {
		t.Errorf("got %v", err)
	}
	if want := "1 key tried on slot 1; slot 0, key 1: the key slot's argon2 needs 64 MiB"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMemoryIsGivenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(100)
		release, err := m.acquire(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		wait := func(name string, need uint64) {
			go func() {
				release, err := m.acquire(t.Context(), need)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, name)
				release()
			}()
			synctest.Wait()
		}
		wait("large", 100)
		wait("small", 10) // it would fit, but the large one came first
		wait("no memory at all", 0)
		release()
		synctest.Wait()
		if got := strings.Join(order, ", "); got != "no memory at all, large, small" {
			t.Errorf("served: %s", got)
		}
	})
}

func TestAWaitForMemoryEndsWithItsContextAndLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(100)
		release, err := m.acquire(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var failed error
		go func() { _, failed = m.acquire(ctx, 90) }()
		synctest.Wait()
		passed := false
		go func() {
			if release, err := m.acquire(t.Context(), 40); err == nil {
				passed = true
				release()
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(failed, context.Canceled) || !passed {
			t.Errorf("got %v; the next one passed: %v", failed, passed)
		}
		release()
		if m.free != 100 {
			t.Errorf("%d KiB are free at the end", m.free)
		}
	})
}

func TestMemoryIsNeverOvercommitted(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		total := rapid.Uint64Range(1, 1000).Draw(r, "total")
		needs := rapid.SliceOfN(rapid.Uint64Range(0, 1200), 1, 30).Draw(r, "needs")
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(total)
			var mu sync.Mutex
			used, served, refused := uint64(0), 0, 0
			for _, need := range needs {
				go func() {
					release, err := m.acquire(t.Context(), need)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						refused++
						if need <= total {
							t.Errorf("%d of %d refused: %v", need, total, err)
						}
						return
					}
					used += need
					if used > total {
						t.Errorf("%d of %d given", used, total)
					}
					mu.Unlock()
					time.Sleep(time.Duration(need) * time.Second) // virtual
					mu.Lock()
					used -= need
					served++
					release()
				}()
			}
			time.Sleep(time.Duration(len(needs)) * 2000 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			m.mu.Lock()
			defer m.mu.Unlock()
			if served+refused != len(needs) || m.free != total {
				t.Errorf("%d served, %d refused of %d; %d of %d free", served, refused, len(needs), m.free, total)
			}
		})
	})
}

func TestAvailableMemoryIsThreeQuartersOfWhatTheKernelSays(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemTotal:       24683876 kB\nMemFree:        1 kB\nMemAvailable:   24000000 kB\n": 18000000,
		"MemTotal:       24683876 kB\n": 0,
		"MemAvailable:   lots kB\n":     0,
	} {
		got, err := AvailableMemory(sysfs.New(fstest.MapFS{"proc/meminfo": {Data: []byte(text)}}))
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("got %d, %v, want %d", got, err, want)
		}
	}
}
