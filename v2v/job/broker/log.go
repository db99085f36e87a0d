package broker

import (
	"fmt"
	"sync"
)

// lines hands what the server complains of to whoever started it, and keeps the last complaint for an error.
type lines struct {
	to func(string)

	mu   sync.Mutex
	last string
}

func (l *lines) say(level, format string, v []any) {
	line := fmt.Sprintf(format, v...)
	l.mu.Lock()
	l.last = line
	l.mu.Unlock()
	if l.to != nil {
		l.to("queue: " + level + ": " + line)
	}
}

// why is the last complaint.
func (l *lines) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return "it does not answer"
	}
	return l.last
}

func (l *lines) Noticef(string, ...any)         {} // its own start, at length
func (l *lines) Warnf(format string, v ...any)  { l.say("warning", format, v) }
func (l *lines) Fatalf(format string, v ...any) { l.say("fatal", format, v) }
func (l *lines) Errorf(format string, v ...any) { l.say("error", format, v) }
func (l *lines) Debugf(string, ...any)          {}
func (l *lines) Tracef(string, ...any)          {}
