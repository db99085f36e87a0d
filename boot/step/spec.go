package step

import (
	"encoding/json"
	"fmt"
	"os"

	"initd/boot/plan"
)

// spec reads a unit's parameters as its kind's own type.
func spec[T any](u *plan.Unit) (T, error) {
	var s T
	if err := json.Unmarshal(u.Spec, &s); err != nil {
		return s, fmt.Errorf("%s: read spec: %w", u.ID, err)
	}
	return s, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
