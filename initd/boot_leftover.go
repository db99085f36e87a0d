package main

import (
	"fmt"
	"slices"
	"strings"

	"initd/boot/report"
	"initd/hw/process"
)

// leftovers takes over and reports what of the orchestrators before this one
// cannot be ended: init killed it, and it sleeps in the kernel. What it was
// working on is left to it until it is gone.
func (o *orchestrator) leftovers(busy []uint32) {
	known := []int{}
	for _, l := range o.children.Adopt() {
		known = append(known, l.PID)
		o.record(report.Event{
			Kind: report.InitFact, PID: l.PID, Wchan: l.Wchan, Object: strings.Join(l.Objects, ", "),
			Text: fmt.Sprintf("a child of an orchestrator before this one (%s for %s) sleeps in the kernel and cannot be ended; nothing else is started on %s until it is gone",
				l.Func, l.Unit, strings.Join(l.Objects, ", ")),
		})
	}
	for _, pid := range busy {
		if slices.Contains(known, int(pid)) {
			continue
		}
		_, wchan := process.Sleeper([]int{int(pid)})
		o.record(report.Event{
			Kind: report.InitFact, PID: int(pid), Wchan: wchan,
			Text: "a process of an orchestrator before this one sleeps in the kernel and cannot be ended",
		})
	}
}
