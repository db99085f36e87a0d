package step

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An attempt to put a part into a bond is a change of links, which begins the next one.
func TestAPartThatCannotJoinIsNotTriedWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts, why := 0, error(nil)
		var notes []string
		j := joiner{join: func() error { attempts++; return why }, note: func(s string) { notes = append(notes, s) }}
		try := func(want int) {
			t.Helper()
			for range 5 {
				j.try()
			}
			if attempts != want {
				t.Errorf("%d attempts, want %d", attempts, want)
			}
		}
		j.try()
		why = errors.New("link bond0: put eth1 into it: invalid argument")
		try(2)
		time.Sleep(joinPause)
		try(3)
		time.Sleep(joinPause)
		why = nil
		j.try()
		why = errors.New("link bond0: put eth2 into it: device or resource busy")
		try(5)
		if diff := cmp.Diff([]string{"link bond0: put eth1 into it: invalid argument", "link bond0: put eth2 into it: device or resource busy"}, notes); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	})
}
