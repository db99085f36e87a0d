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
	posAll    = 0x3f000000
	usrView   = 0x00010000
	usrRead   = 0x00020000
	usrLink   = 0x00100000

	// what the kernel gives an anonymous session keyring (install_session_keyring_to_cred, security/keys/process_keys.c)
	sessionPermission = posAll | usrView | usrRead
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
		return errors.Join(fmt.Errorf("keyctl setperm %s: %w", description, err), forget(unix.KEY_SPEC_SESSION_KEYRING, id))
	}
	return nil
}

// joinSession gives the calling thread an anonymous session keyring of its own, and returns it. The thread must be locked.
func joinSession() (ring int, err error) {
	// The wrapper of golang.org/x/sys joins a keyring named "" instead; a nil name means an anonymous one.
	if ring, err = unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("join an anonymous session keyring: %w", err)
	}
	return ring, nil
}

// shareSession runs join on other threads, which may call linkSession meanwhile: only then does the session keyring of the
// calling thread let others of the same user link to it. Do that while it is empty.
func shareSession(ring int, join func() error) error {
	if err := unix.KeyctlSetperm(ring, sessionPermission|usrLink); err != nil {
		return fmt.Errorf("keyctl setperm of the session keyring: %w", err)
	}
	err := join()
	if err := unix.KeyctlSetperm(ring, sessionPermission); err != nil {
		return fmt.Errorf("keyctl setperm of the session keyring: %w", err)
	}
	return err
}

// linkSession makes the calling thread possess a session keyring and what is in it, as long as the thread lives. The thread
// must be locked.
func linkSession(ring int) error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_LINK, ring, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err != nil {
		return fmt.Errorf("link to the session keyring: %w", err)
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

// findKey returns the logon key of that description in a keyring that the calling thread possesses.
func findKey(ring int, description string) (int, error) {
	id, err := unix.KeyctlSearch(ring, "logon", description, 0)
	if err != nil {
		return 0, fmt.Errorf("find the key %s in the session keyring: %w", description, err)
	}
	return id, nil
}

// forget takes a key out of a keyring. The kernel wipes its payload when nobody uses it any more, and
// invalidating makes that soon.
func forget(ring, id int) error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0); err != nil {
		return fmt.Errorf("invalidate a volume key: %w", err)
	}
	_, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, id, ring, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOKEY) { // invalidated keys go by themselves
		return fmt.Errorf("unlink a volume key: %w", err)
	}
	return nil
}
