package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"initd/boot/appliance"
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
			if strings.HasPrefix(key, "initd.") && !slices.Contains(argumentNames(), key) {
				a.ignored = append(a.ignored, unknownArgument(key))
			}
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
			a.skip = append(a.skip, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "initd.events":
			a.events = value
		}
	}
	return a
}

// argumentNames are all kernel arguments of initd's; those that readKernelArgs does not know are init's (initd/pid1).
func argumentNames() []string {
	return []string{
		"initd.state", "initd.skip", "initd.events", "initd.debug", "initd.exe", "initd.failure-time", "initd.watchdog", "initd.watchdog-time",
		"initd.locked",
	}
}

func unknownArgument(key string) string {
	const prefix = "initd."
	var words []string
	for _, name := range argumentNames() {
		words = append(words, strings.TrimPrefix(name, prefix))
	}
	s := fmt.Sprintf("%.60q is no kernel argument of initd", key)
	if meant := appliance.Nearest(strings.TrimPrefix(key, prefix), words); meant != "" {
		s += fmt.Sprintf("; did you mean %q?", prefix+meant)
	}
	return s
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
