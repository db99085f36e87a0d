package supervise

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Sink takes the lines that services write. Line is called from one goroutine
// and may take its time: lines that wait too long for it are dropped, and
// counted in a line of their own. It never makes a service wait.
type Sink interface {
	Line(service, line string)
}

const (
	keepLines = 200       // of each service, for reports
	maxLine   = 4 << 10   // bytes; a longer line goes on in the next
	pipeSize  = 256 << 10 // bytes that a service can write while nobody reads
	maxWaits  = 1024      // lines that wait for the sink
)

// logPipe is where a service writes. init keeps both ends too, so that a
// service can write while this process is being replaced.
type logPipe struct {
	read, write *os.File
}

func newLogPipe() (logPipe, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return logPipe{}, os.NewSyscallError("pipe", err)
	}
	_, _ = unix.FcntlInt(uintptr(fd[1]), unix.F_SETPIPE_SZ, pipeSize) // as large as the user may; the default does too
	return adoptPipe(fd[0], fd[1])
}

func adoptPipe(read, write int) (logPipe, error) {
	// Only this end: the other is the service's standard output, where
	// nobody expects EAGAIN.
	if err := unix.SetNonblock(read, true); err != nil {
		return logPipe{}, os.NewSyscallError("set nonblocking", err)
	}
	return logPipe{read: os.NewFile(uintptr(read), "log"), write: os.NewFile(uintptr(write), "log")}, nil
}

func (p logPipe) close() {
	if p.read != nil {
		p.read.Close()
		p.write.Close()
	}
}

// log reads a service's pipe, keeps the last lines and hands all to a sink.
type log struct {
	name string
	out  *queue

	mu    sync.Mutex
	lines []string
	rest  []byte // of the last line
}

// follow reads until the pipe is closed.
func (l *log) follow(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		return l.pull(int(fd)) // false: wait for more
	})
}

// catchUp reads what is in the pipe now.
func (l *log) catchUp(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { l.pull(int(fd)) })
	}
}

// pull reads without waiting; true means that no more will come.
func (l *log) pull(fd int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b [16 << 10]byte
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			return true
		}
		l.take(b[:n])
	}
}

func (l *log) take(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part, next := b, []byte(nil)
		if i >= 0 {
			part, next = b[:i], b[i+1:]
		}
		if room := maxLine - len(l.rest); len(part) > room {
			l.rest = append(l.rest, part[:room]...)
			b = b[room:]
			l.flush()
			continue
		}
		l.rest = append(l.rest, part...)
		if i >= 0 {
			l.flush()
		}
		b = next
	}
}

// flush ends a line; mu is held.
func (l *log) flush() {
	line := printable(l.rest)
	l.rest = l.rest[:0]
	l.lines = append(l.lines, line)
	if over := len(l.lines) - keepLines; over > 0 {
		l.lines = append(l.lines[:0], l.lines[over:]...)
	}
	l.out.put(l.name, line)
}

// say adds a line of our own.
func (l *log) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.flush()
	}
	l.rest = append(l.rest, text...)
	l.flush()
}

// last returns up to n lines, the newest at the end.
func (l *log) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := append([]string(nil), l.lines[max(0, len(l.lines)-n):]...)
	if len(l.rest) > 0 && n > 0 {
		list = append(list, printable(l.rest))
	}
	return list[max(0, len(list)-n):]
}

// printable makes a line safe for a terminal: control characters and what is
// no UTF-8 become question marks, a tab stays.
func printable(b []byte) string {
	b = bytes.TrimRight(b, "\r")
	return string(bytes.Map(func(r rune) rune {
		if r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, b))
}
