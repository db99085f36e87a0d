package main

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// endEach sends a signal to the orchestrator that runs and to those that
// follow it, as each of them comes: to so many. It answers at once.
func endEach(s unix.Signal, count string) (map[string]any, error) {
	left, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("how many: %w", err)
	}
	go func() {
		last := 0
		for left > 0 {
			pid, err := orchestrator()
			if err != nil || pid == last || unix.Kill(pid, s) != nil {
				time.Sleep(20 * time.Millisecond) // a new process has no event
				continue
			}
			last = pid
			left--
		}
	}()
	return nil, nil
}
