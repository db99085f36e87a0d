package appliance

import (
	"encoding"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written 90s, 3m, 1h30m.
type Duration time.Duration

var _ encoding.TextUnmarshaler = (*Duration)(nil)

// UnmarshalText reads a duration with its unit. None is zero: that stands for one that is not given.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := parseDuration(b)
	if err == nil && v == 0 {
		return fmt.Errorf("%q is no time: write one that is longer, or leave the key out for its default", b)
	}
	*d = v
	return err
}

func parseDuration(b []byte) (Duration, error) {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%q is no duration: write a number with its unit, such as 30s or 3m", b)
	}
	return Duration(v), nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Or returns d, or def where d is not given.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// Mode is a file mode, written as octal text: "0644".
type Mode uint32

// UnmarshalText reads octal digits.
func (m *Mode) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 8, 12)
	if err != nil || len(b) < 3 {
		return fmt.Errorf("%q is no file mode: write it in octal, such as \"0644\"", b)
	}
	*m = Mode(v)
	return nil
}

// OnFailure is degrade, halt or reboot(N).
type OnFailure struct {
	Action  string // "", "degrade", "halt", "reboot"
	Reboots int
}

// UnmarshalText reads degrade, halt or reboot(N).
func (o *OnFailure) UnmarshalText(b []byte) error {
	s := string(b)
	switch s {
	case "degrade", "halt":
		o.Action = s
		return nil
	}
	if n, ok := strings.CutPrefix(s, "reboot("); ok {
		if v, err := strconv.Atoi(strings.TrimSuffix(n, ")")); err == nil && strings.HasSuffix(n, ")") && v > 0 && v <= 10 {
			*o = OnFailure{Action: "reboot", Reboots: v}
			return nil
		}
	}
	return fmt.Errorf("%q is no policy: write degrade, halt, or reboot(N) with N from 1 to 10", s)
}
