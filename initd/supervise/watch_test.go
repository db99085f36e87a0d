package supervise

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"initd/initd/pid1/pid1test"
)

// A path appears with all its folders while the watch is being set up: no
// moment of that may be missed, or the wait is for ever.
func TestAWatchMissesNoFolder(t *testing.T) {
	root := t.TempDir()
	guard := time.After(pid1test.Guard)
	for i := range 100 {
		path := filepath.Join(root, strconv.Itoa(i), "a", "b", "pid")
		made := make(chan error, 1)
		go func() {
			err := os.MkdirAll(filepath.Dir(path), 0o755)
			if err == nil {
				time.Sleep(time.Duration(i%8) * 20 * time.Microsecond) // spread over the steps of watch
				err = os.WriteFile(path, nil, 0o644)
			}
			made <- err
		}()
		for found := false; !found; {
			stirred, stop := watch(path)
			if stirred == nil {
				t.Fatal("the folder cannot be watched")
			}
			if _, err := os.Stat(path); err == nil {
				stop()
				break
			}
			select {
			case <-stirred:
			case <-guard:
				t.Fatalf("round %d: the file is there and nothing was told", i)
			}
			stop()
		}
		if err := <-made; err != nil {
			t.Fatal(err)
		}
	}
}

// A status that comes before init has told that the program runs is kept in
// the reason.
func TestAStatusBeforeRunningIsInTheReason(t *testing.T) {
	m := New(nil, Options{Run: t.TempDir()})
	u := m.unit("early")
	u.def = role("early", "notify")
	u.def.Ready.Notify = true
	u.phase = Loading
	u.proc = &proc{cancel: func() {}}
	u.proc.ID, u.proc.PID = 7, 4711
	u.notified(4711, "STATUS=warming up")
	u.loaded(7)
	if st := u.status(); st.Phase != Starting || st.Reason != "waiting for READY=1: warming up" {
		t.Errorf("status: %+v", st)
	}
}
