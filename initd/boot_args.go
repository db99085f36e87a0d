package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// kernelArgs are the kernel arguments that are ours.
type kernelArgs struct {
	state  string   // initd.state=: resource of the state disk
	skip   []string // initd.skip=: units to skip
	events string   // initd.events=: a device that gets every event as a line of JSON
}

func readKernelArgs(path string) kernelArgs {
	b, err := os.ReadFile(path)
	if err != nil {
		return kernelArgs{}
	}
	return parseKernelArgs(string(b))
}

func parseKernelArgs(line string) kernelArgs {
	var a kernelArgs
	for _, w := range strings.Fields(line) {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "initd.state":
			a.state = value
		case "initd.skip":
			a.skip = append(a.skip, strings.Split(value, ",")...)
		case "initd.events":
			a.events = value
		}
	}
	return a
}

// built is set by the build: seconds since 1970 of the commit.
var built = "0"

// builtAt is a time that is certainly past.
func builtAt() time.Time {
	s, err := strconv.ParseInt(built, 10, 64)
	if err != nil || s <= 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
