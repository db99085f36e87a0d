package main

import (
	"os"
	"strings"
	"time"
)

// settings are what the kernel command line says to init.
type settings struct {
	exe         string        // orchestrator to try first
	failureTime time.Duration // zero: for ever
	watchdog    string        // device; empty: none
	// watchdogTime is the watchdog's timeout whoever asks for another; zero: as asked.
	watchdogTime time.Duration
	debug        bool
	ignored      []string // what was there and does not count, in words
}

// usualDog is the first watchdog of a machine.
const usualDog = "/dev/watchdog"

const defaultFailureTime = 10 * time.Minute

func readSettings(file string) settings {
	b, err := os.ReadFile(file)
	if err != nil {
		s := parseSettings("")
		s.ignored = append(s.ignored, "read kernel command line: "+err.Error())
		return s
	}
	return parseSettings(string(b))
}

func parseSettings(line string) settings {
	s := settings{failureTime: defaultFailureTime, watchdog: usualDog}
	words := strings.Fields(line)
	locked := false
	for _, w := range words {
		locked = locked || w == "initd.locked" || strings.HasPrefix(w, "initd.locked=")
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "initd.exe", "initd.debug", "initd.failure-time", "initd.watchdog", "initd.watchdog-time":
		default:
			continue
		}
		if locked {
			s.ignored = append(s.ignored, key+" ignored: the image is locked")
			continue
		}
		if why := s.set(key, value); why != "" {
			s.ignored = append(s.ignored, w+" ignored: "+why)
		}
	}
	return s
}

func (s *settings) set(key, value string) (why string) {
	switch key {
	case "initd.exe":
		if !strings.HasPrefix(value, "/") {
			return "want an absolute path"
		}
		s.exe = value
	case "initd.debug":
		s.debug = true
	case "initd.failure-time":
		d, err := time.ParseDuration(value)
		if value == "0" {
			d, err = 0, nil
		}
		if err != nil || d < 0 {
			return "want a time like 10m"
		}
		s.failureTime = d
	case "initd.watchdog-time":
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Second {
			return "want a time of a second or more, like 60s"
		}
		s.watchdogTime = d
	case "initd.watchdog":
		switch {
		case value == "off":
			s.watchdog = ""
		case strings.HasPrefix(value, "/"):
			s.watchdog = value
		default:
			return "want a device or off"
		}
	}
	return ""
}
