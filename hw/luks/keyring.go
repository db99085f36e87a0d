package luks

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// keyPermission lets whoever possesses the keyring find the key and make it invalid, and nobody else even see it
// (Documentation/security/keys/core.rst, "Key access permissions"). A logon key cannot be read by anyone.
const keyPermission = posView | posSearch

// include/linux/key.h
const (
	posView   = 0x01000000
	posSearch = 0x08000000
)

// SessionKeyring adds logon keys to the session keyring of the calling thread, which a process inherits.
type SessionKeyring struct{}

// Add implements Keyring.
func (SessionKeyring) Add(description string, payload []byte) error {
	id, err := unix.AddKey("logon", description, payload, unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return fmt.Errorf("add_key %s: %w", description, err)
	}
	if err := unix.KeyctlSetperm(id, keyPermission); err != nil {
		return errors.Join(fmt.Errorf("keyctl setperm %s: %w", description, err), forget(id))
	}
	return nil
}

// joinSession gives the calling thread an anonymous session keyring of its own. The thread must be locked.
func joinSession() error {
	// The wrapper of golang.org/x/sys joins a keyring named "" instead; a nil name means an anonymous one.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("join an anonymous session keyring: %w", err)
	}
	return nil
}

// leaveSession makes the session keyring and all in it unusable at once, also for those who still hold it.
func leaveSession() error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_REVOKE, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0); err != nil {
		return fmt.Errorf("revoke the session keyring: %w", err)
	}
	return nil
}

// findKey returns the logon key of that description in the session keyring of the calling thread.
func findKey(description string) (int, error) {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "logon", description, 0)
	if err != nil {
		return 0, fmt.Errorf("find the key %s in the session keyring: %w", description, err)
	}
	return id, nil
}

// forget takes a key out of the session keyring. The kernel wipes its payload when nobody uses it any more, and
// invalidating makes that soon.
func forget(id int) error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0); err != nil {
		return fmt.Errorf("invalidate a volume key: %w", err)
	}
	_, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOKEY) { // invalidated keys go by themselves
		return fmt.Errorf("unlink a volume key: %w", err)
	}
	return nil
}
