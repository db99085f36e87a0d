package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"initd/hw/iscsi"
	"initd/hw/sysfs"
)

// logoutTime is what a target gets to let its disks go and answer; one that
// does not is left, and I/O that waits for it fails.
const logoutTime = 5 * time.Second

// runDir is where the records of sessions lie: without its record a session is
// not recovered by anybody while it ends.
const runDir = "/run/initd"

// logOut ends one session of ours; one that is gone is none to complain of.
func logOut(ctx context.Context, session string) error {
	id, err := strconv.ParseUint(session, 10, 32)
	if err != nil {
		return fmt.Errorf("log out of session %q: %w", session, err)
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return err
	}
	defer sys.Close()
	s, err := iscsi.ReadSession(sys, uint32(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isid, ours := s.ISID()
	if !ours {
		return fmt.Errorf("log out of session %s: it is another program's", session)
	}
	if err := iscsi.RecordsAt(runDir).Remove(isid.String()); err != nil {
		return err
	}
	k, err := iscsi.OpenKernel(sys)
	if err != nil {
		return err
	}
	defer k.Close()
	polite, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	return k.End(polite, s)
}
