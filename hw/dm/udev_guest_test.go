//go:build guest

package dm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/anatol/devmapper.go"
)

// udevd runs the machine's udev for the length of a test.
func udevd(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/udev/rules.d/" + notifyRules); err != nil {
		t.Fatal("udev's rules for device mapper are missing: carry /usr/lib/udev with the Debian packages udev and dmsetup")
	}
	const daemon = "/lib/systemd/systemd-udevd"
	cmd := exec.Command(daemon, "--daemon")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", daemon, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("udevadm", "control", "--exit").CombinedOutput(); err != nil {
			t.Errorf("udevadm control --exit: %v: %s", err, out)
		}
	})
	if !(udev{root}).manages() {
		t.Fatal("udev runs and was not found")
	}
}

// With a udev, the node is udev's work and is there when Resume returns; no cookie is left behind.
func TestUdevCompletesTheCookies(t *testing.T) {
	udevd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 3 {
		if err := errors.Join(Create("udev0", "TEST-udev0"), Load("udev0", false, devmapper.ErrorTable{Length: sectors * SectorSize}), Resume(ctx, "udev0")); err != nil {
			t.Fatal(err)
		}
		info, err := Stat("udev0")
		if err != nil {
			t.Fatal(err)
		}
		database, err := os.ReadFile("/run/udev/data/b" + info.Dev.String())
		if err != nil || !strings.Contains(string(database), "E:DM_NAME=udev0") || !strings.Contains(string(database), "E:DM_UDEV_PRIMARY_SOURCE_FLAG=1") {
			t.Errorf("udev knows of it: %v\n%s", err, database)
		}
		if err := errors.Join(Suspend("udev0", false), Resume(ctx, "udev0"), Remove(ctx, "udev0")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(Node("udev0")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its node is still there: %v", err)
		}
	}
	if err := Remove(ctx, "udev0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing nothing gives %v", err)
	}
	cookies, err := os.ReadFile("/proc/sysvipc/sem")
	if err != nil || strings.Count(strings.TrimSpace(string(cookies)), "\n") != 0 {
		t.Errorf("cookies are left: %v\n%s", err, cookies)
	}
}
