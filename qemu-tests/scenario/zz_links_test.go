//go:build mine

package scenario

import "testing"

func TestMine(t *testing.T) {
	runRows(t, row{Package: "./hw/watchdog", Modules: []string{"softdog"}, Alone: true})
}
