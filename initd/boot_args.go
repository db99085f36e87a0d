package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// kernelArgs are the kernel arguments that are ours.
type kernelArgs struct {
	state   string   // initd.state=: resource of the state disk
	skip    []string // initd.skip=: units to skip
	events  string   // initd.events=: a device that gets every event as a line of JSON
	ignored []string // what was there and does not count, in words
}

func readKernelArgs(path string) kernelArgs {
	b, err := os.ReadFile(path)
	if err != nil {
		return kernelArgs{}
	}
	return parseKernelArgs(string(b))
}

// parseKernelArgs reads a kernel command line. On a locked image, whose signed
// command line says initd.locked, nothing that somebody added to it counts:
// init holds to the same for its own arguments.
func parseKernelArgs(line string) kernelArgs {
	var a kernelArgs
	words := strings.Fields(line)
	locked := false
	for _, w := range words {
		key, _, _ := strings.Cut(w, "=")
		locked = locked || key == "initd.locked"
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "initd.state", "initd.skip", "initd.events":
		default:
			continue
		}
		if locked {
			a.ignored = append(a.ignored, key+"= ignored: the image is locked")
			continue
		}
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
