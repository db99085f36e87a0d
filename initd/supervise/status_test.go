package supervise

import "testing"

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
