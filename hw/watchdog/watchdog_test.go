package watchdog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// PID 1 has to stay below 2 MiB, and nothing here asks for more than this.
func TestItLinksNothingBig(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		switch dep {
		case "fmt", "net", "encoding/json", "os/exec", "log", "context":
			t.Errorf("it links %s", dep)
		}
	}
}

func TestACauseReadsAloud(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cause Cause
		want  string
		dog   bool
	}{
		{"nothing is known", 0, "", false},
		{"the watchdog bit", 0x20, "the watchdog reset it", true},
		{"two at once", 0x21, "the watchdog reset it, it was too hot", true},
		{"low voltage", 0x10, "the voltage was too low", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.cause.String(); got != tt.want || tt.cause.Watchdog() != tt.dog {
				t.Errorf("got %q, %v; want %q, %v", got, tt.cause.Watchdog(), tt.want, tt.dog)
			}
		})
	}
}

func TestWhatIsNoWatchdogIsAnError(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "watchdog0"), "/sys"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a device: got %v, want ErrNotExist", err)
	}
	_, err := Open(os.DevNull, "/sys")
	var failed *Error
	if !errors.As(err, &failed) || failed.Device != os.DevNull || failed.Op != "ask what it is" {
		t.Errorf("with another device: got %v, want an Error that says what was asked", err)
	}
}
