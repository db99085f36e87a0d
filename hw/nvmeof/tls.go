package nvmeof

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel leaves the TLS handshake to a daemon that listens to a group of generic netlink
// (Documentation/networking/tls-handshake.rst; net/handshake/genl.c).
const (
	handshakeFamily = "handshake"
	handshakeGroup  = "tlshd"
	netlinkGeneric  = 16
)

// readyForTLS refuses what the kernel would refuse less clearly: a handshake with nobody to make it, a keyring that is none.
func readyForTLS(o *Options) *ConnectError {
	there, err := handshakeDaemon()
	switch {
	case err != nil:
		return &ConnectError{Reason: NoHandshake, Detail: err.Error()}
	case !there:
		return &ConnectError{Reason: NoHandshake}
	}
	for _, k := range []struct {
		id   int32
		kind string
	}{{o.Keyring, "keyring"}, {o.TLSKey, "psk"}} {
		if k.id == 0 {
			continue
		}
		text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(k.id))
		if err != nil {
			return &ConnectError{Reason: NoPSK, Detail: fmt.Sprintf("%s %d: %v", k.kind, k.id, err)}
		}
		if kind, _, _ := strings.Cut(text, ";"); kind != k.kind {
			return &ConnectError{Reason: NoPSK, Detail: fmt.Sprintf("%d is a %s, not a %s", k.id, kind, k.kind)}
		}
	}
	return nil
}

// handshakeDaemon tells whether a daemon listens.
func handshakeDaemon() (bool, error) {
	family, err := netlink.GenlFamilyGet(handshakeFamily)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, errors.New("this kernel has no TLS handshakes")
		}
		return false, fmt.Errorf("look for the handshake daemon: %w", err)
	}
	group := uint32(0)
	for _, g := range family.Groups {
		if g.Name == handshakeGroup {
			group = g.ID
		}
	}
	f, err := os.Open("/proc/net/netlink")
	if err != nil {
		return false, fmt.Errorf("look for the handshake daemon: %w", err)
	}
	defer f.Close()
	return listens(f, group), nil
}

// listens reads /proc/net/netlink, which shows the first 32 groups of each socket. Of one beyond them nobody can say: then
// the kernel's own answer has to do.
func listens(r io.Reader, group uint32) bool {
	if group == 0 {
		return false
	}
	if group > 32 {
		return true
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // sk Eth Pid Groups …
		if len(f) < 4 || f[1] != strconv.Itoa(netlinkGeneric) {
			continue
		}
		if mask, err := strconv.ParseUint(f[3], 16, 32); err == nil && mask&(1<<(group-1)) != 0 {
			return true
		}
	}
	return false
}

// Keyring finds a keyring by its name (".nvme"), which has to be visible to this process.
func Keyring(name string) (int32, error) {
	f, err := os.Open("/proc/keys")
	if err != nil {
		return 0, fmt.Errorf("find keyring %s: %w", name, err)
	}
	defer f.Close()
	return findKeyring(f, name)
}

func findKeyring(r io.Reader, name string) (int32, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // ID FLAGS USAGE TIMEOUT PERM UID GID TYPE DESCRIPTION: SUMMARY
		if len(f) < 9 || f[7] != "keyring" || strings.TrimSuffix(f[8], ":") != name {
			continue
		}
		id, err := strconv.ParseUint(f[0], 16, 32)
		if err == nil {
			return int32(id), nil
		}
	}
	return 0, fmt.Errorf("no keyring is called %s here", name)
}
