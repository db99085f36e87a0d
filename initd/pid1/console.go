package main

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// console writes lines to /dev/console and never makes its caller wait: a
// serial line that nobody reads may take for ever.
type console struct {
	lines   chan string
	ready   chan *os.File
	dropped atomic.Int32
}

// waiting is the number of lines that may wait for the console.
const waiting = 256

func newConsole() *console {
	c := &console{lines: make(chan string, waiting), ready: make(chan *os.File, 1)}
	go c.write()
	return c
}

// say writes one line, or drops it when too many wait.
func (c *console) say(line string) { c.raw("init: " + line + "\n") }

// raw writes text as it is.
func (c *console) raw(text string) {
	select {
	case c.lines <- text:
	default:
		c.dropped.Add(1)
	}
}

// open opens the device, once /dev is there. What was said before is written
// then.
func (c *console) open() {
	fd, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		c.ready <- nil // no console: lines are dropped
		return
	}
	c.ready <- os.NewFile(uintptr(fd), "/dev/console")
}

func (c *console) write() {
	f := <-c.ready
	for s := range c.lines {
		if f == nil {
			continue
		}
		if n := c.dropped.Swap(0); n > 0 {
			s = "init: (" + itoa(int(n)) + " lines dropped: the console is too slow)\n" + s
		}
		f.WriteString(s) //nolint:errcheck // a console that fails has nowhere to be told
	}
}

// consoleFor opens the console as the standard input, output and error of the
// orchestrator, or /dev/null where there is none.
func consoleFor() int {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err == nil {
		return fd
	}
	fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}
