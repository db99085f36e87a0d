package broker

import (
	"fmt"
	"sync"
)

// lines hands what the server says to whoever started it, and keeps the last complaint for an error.
type lines struct {
	to func(string)

	mu   sync.Mutex
	last string
}

func (l *lines) say(level, format string, v []any) {
	line := level + ": " + fmt.Sprintf(format, v...)
	if level != "notice" {
		l.mu.Lock()
		l.last = fmt.Sprintf(format, v...)
		l.mu.Unlock()
	}
	if l.to != nil {
		l.to(line)
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

func (l *lines) Noticef(format string, v ...any) { l.say("notice", format, v) }
func (l *lines) Warnf(format string, v ...any)   { l.say("warning", format, v) }
func (l *lines) Fatalf(format string, v ...any)  { l.say("fatal", format, v) }
func (l *lines) Errorf(format string, v ...any)  { l.say("error", format, v) }
func (l *lines) Debugf(string, ...any)           {}
func (l *lines) Tracef(string, ...any)           {}
