package engine

import (
	"initd/boot/plan"
	"initd/boot/report"
)

// setHalting keeps count of the units that hold the boot.
func (s *state) setHalting(u *unit) {
	p := u.u.Policy.OnFailure
	halting := (p == plan.Halt || p == plan.Reboot) && !u.ran &&
		(u.state == report.Failed || u.state == report.Stuck || u.state == report.Degraded ||
			u.halting && (u.state == report.Waiting || u.state == report.Running))
	if halting == u.halting {
		return
	}
	u.halting = halting
	if halting {
		s.halting++
	} else {
		s.halting--
	}
	if s.halted {
		s.setFree()
	}
}

// setFree finds what may start while the boot is halted: the units that hold
// it, what they stand on, and who has that to itself.
func (s *state) setFree() {
	var work []*unit
	for _, u := range s.units {
		u.free = u.u.Stage == plan.Network || u.u.Stage == plan.Time || u.halting
		if u.halting {
			work = append(work, u)
		}
		s.mark(u)
	}
	allow := func(u *unit) {
		if u != nil && !u.free {
			u.free = true
			work = append(work, u)
		}
	}
	for len(work) > 0 {
		u := work[0]
		work = work[1:]
		for _, n := range u.requires {
			for _, e := range n.edges {
				allow(e.r.provider)
				for _, o := range s.names(e.r) {
					for _, c := range o.claims {
						allow(c)
					}
				}
			}
		}
	}
}
