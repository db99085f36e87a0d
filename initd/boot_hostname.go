package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// nameHost gives the machine the appliance's name, if nobody has named it: services tell it to others, and two workers of one queue that are both
// called (none) would be taken for one.
func (o *orchestrator) nameHost() {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		o.note(fmt.Sprintf("ask for this machine's name: %v", err))
		return
	}
	switch unix.ByteSliceToString(uts.Nodename[:]) {
	case "", "(none)": // init/version.c, UTS_NODENAME
	default:
		return
	}
	if err := unix.Sethostname([]byte(o.chosen.plan.Name)); err != nil {
		o.note(fmt.Sprintf("name this machine %s: %v", o.chosen.plan.Name, err))
	}
}
