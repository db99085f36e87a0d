package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// until runs a command until it has printed a line that matches, and ends it.
func until(command, pattern string) (map[string]any, error) {
	want, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(command)
	cmd := exec.Command(words[0], words[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	last := ""
	for lines.Scan() {
		if last = lines.Text(); want.MatchString(last) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
			return map[string]any{"text": last}, nil
		}
	}
	return nil, fmt.Errorf("%s ended before it printed %s: %v; last was %q; %s", command, pattern, cmd.Wait(), last, stderr.String())
}

// killRunning kills the first process whose command line begins with these words.
func killRunning(words string) (map[string]any, error) {
	pid, err := running(strings.Fields(words)...)
	if err != nil {
		return nil, err
	}
	return map[string]any{"pid": pid}, unix.Kill(pid, unix.SIGKILL)
}
