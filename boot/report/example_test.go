package report_test

import (
	"fmt"
	"os"
	"time"

	"initd/boot/report"
)

// A report is a fold of events, wherever they come from.
func Example() {
	r := report.Fold([]report.Event{
		{At: 2 * time.Second, Kind: report.PlanLoaded, Plan: &report.PlanInfo{Name: "store-07", Budget: 3 * time.Minute, Origin: 2 * time.Second}},
		{At: 2 * time.Second, Kind: report.UnitDeclared, Unit: "luks/tank0", Info: &report.UnitInfo{
			Kind: "luks", Stage: "unlock", Needs: []report.Need{{AnyOf: []string{"block/label/tank0"}}},
		}},
		{At: 2 * time.Second, Kind: report.ResourceChanged, Resource: "block/label/tank0", Presence: report.Absent, Reason: "no device with this label"},
		{At: 2 * time.Second, Kind: report.UnitChanged, Unit: "luks/tank0", Waits: []report.Wait{{AnyOf: []string{"block/label/tank0"}, Since: 2 * time.Second}}, Unmet: 1},
		{At: 9 * time.Second, Kind: report.KernelFact, Text: "virtio_blk: registered"},
	})
	if err := r.Why(os.Stdout, "luks/tank0", report.Style{}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// luks/tank0 is waiting, for 7.0 s
	//   it needs block/label/tank0, which is not there: no device with this label
	//
	// It would take: block/label/tank0 to show up
	//
	// Next: lsblk -o NAME,LABEL,PARTLABEL,UUID
	// Next: initd skip luks/tank0
}
