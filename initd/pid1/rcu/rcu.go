// Package rcu hurries the kernel's grace periods while a machine boots, and ends that.
//
// It owns the rule when that may be done, for init, which begins it, and for the orchestrator, which ends it. It links nothing
// that PID 1 could not afford, and decides nothing about when a boot is over.
package rcu

import (
	"os"
	"path"
	"strings"
)

// Expedite lets those in the kernel who wait until every processor has looked up
// once (synchronize_rcu: mounts, cgroups, modules, device mapper) interrupt the
// processors for it instead of waiting for their ticks, as the kernel itself does
// until it starts init (rcu_end_inkernel_boot, kernel/rcu/update.c). Who says
// something about it on the kernel command line has it as he says. root is "/",
// or a test's.
func Expedite(root string, on bool) {
	line, err := os.ReadFile(path.Join(root, "proc/cmdline"))
	if err != nil || strings.Contains(string(line), "rcu_expedited") {
		return
	}
	value := "0\n"
	if on {
		value = "1\n"
	}
	f, err := os.OpenFile(path.Join(root, "sys/kernel/rcu_expedited"), os.O_WRONLY, 0)
	if err != nil {
		return // a kernel without it is slower
	}
	_, _ = f.WriteString(value)
	_ = f.Close()
}
