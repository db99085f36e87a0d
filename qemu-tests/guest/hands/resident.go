package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// resident is what init and the orchestrator have in memory, in KiB: VmRSS of proc_pid_status(5), file pages included,
// which for a program in an initramfs are memory too.
func resident() (map[string]any, error) {
	pid, err := orchestrator()
	if err != nil {
		return nil, err
	}
	found := map[string]any{}
	for name, pid := range map[string]int{"init": 1, "initd": pid} {
		kib, err := vmRSS(pid)
		if err != nil {
			return nil, err
		}
		found[name] = kib
	}
	return found, nil
}

func vmRSS(pid int) (int, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		}
	}
	return 0, fmt.Errorf("%s has no VmRSS", file)
}
