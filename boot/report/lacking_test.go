package report_test

import (
	"testing"

	"initd/boot/report"
)

func TestWhatIsLackingIsNamedOnce(t *testing.T) {
	const disk, gone = "block/uuid/6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5", "uuid/6d6b1c5e-7c0f-4c38-9d31-0f8ab6a6a3f5: no device answers"
	for _, tt := range []struct{ name, resource, reason, lacking, waiting string }{
		{"a device's reason has its name", disk, gone, gone, gone},
		{"a reason without the name", disk, "removed", disk + ": removed", disk + " (removed)"},
		{"another device's reason", disk, "uuid/6d6b: no device answers", disk + ": uuid/6d6b: no device answers", disk + " (uuid/6d6b: no device answers)"},
		{"an endpoint", "endpoint/192.0.2.21:5696", "eth1: no carrier", "endpoint/192.0.2.21:5696: eth1: no carrier", "endpoint/192.0.2.21:5696 (eth1: no carrier)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := report.Lacking(tt.resource, tt.reason); got != tt.lacking {
				t.Errorf("lacking: got %q, want %q", got, tt.lacking)
			}
			if got := (report.Wait{AnyOf: []string{tt.resource}, Reason: tt.reason}).String(); got != tt.waiting {
				t.Errorf("waiting: got %q, want %q", got, tt.waiting)
			}
		})
	}
}
