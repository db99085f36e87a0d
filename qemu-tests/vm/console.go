package vm

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// tailLines of a console are printed when a test fails.
const tailLines = 60

// Console is what a machine wrote to its first serial port. It is safe for concurrent use.
type Console struct {
	m *VM

	mu      sync.Mutex
	lines   []string // whole ones, without line ends
	partial []byte   // what has come of the next one: a prompt has no line end
	ended   bool
	changed chan struct{}
	// The cursor: WaitFor has consumed everything before this line and byte.
	line, col int
}

func newConsole(m *VM) *Console { return &Console{m: m, changed: make(chan struct{})} }

// copyFrom reads the port until it ends, and writes it to a log too.
func (c *Console) copyFrom(r io.Reader, log io.Writer) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			log.Write(buf[:n]) //nolint:errcheck // a full disk must not blind the test: the lines are kept in memory too
			c.add(buf[:n])
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.signal()
}

func (c *Console) add(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, data...)
	for {
		line, rest, found := bytes.Cut(c.partial, []byte("\n"))
		if !found {
			break
		}
		c.lines = append(c.lines, strings.TrimRight(string(line), "\r"))
		c.partial = append([]byte(nil), rest...)
	}
	c.signal()
}

func (c *Console) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Lines gives all lines so far; the last one may be unfinished.
func (c *Console) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all()
}

func (c *Console) all() []string {
	lines := c.lines[:len(c.lines):len(c.lines)]
	if len(c.partial) > 0 {
		lines = append(lines, strings.TrimRight(string(c.partial), "\r"))
	}
	return lines
}

// Text gives all of it, with "\n" line ends.
func (c *Console) Text() string { return strings.Join(c.Lines(), "\n") }

// WaitFor waits for the next match of pattern within one line, after what earlier calls matched, and returns the match
// and its groups. An unfinished line, such as a prompt, can match too. When the guard has passed, or the machine has
// ended without it, the test fails.
func (c *Console) WaitFor(pattern string, guard time.Duration) []string {
	c.m.t.Helper()
	re := regexp.MustCompile(pattern)
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	match, err := c.next(ctx, re)
	if err != nil {
		c.m.t.Fatalf("%s: console line %q: %s", c.m.name, pattern, c.m.whyNot(err, guard))
	}
	return match
}

// Await is WaitFor for what may never come: it returns nil then, and the test goes on.
func (c *Console) Await(pattern string, within time.Duration) []string {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	match, err := c.next(ctx, regexp.MustCompile(pattern))
	if err != nil {
		return nil
	}
	return match
}

func (c *Console) next(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	for {
		c.mu.Lock()
		match, ended, changed := c.scan(re), c.ended, c.changed
		c.mu.Unlock()
		switch {
		case match != nil:
			return match, nil
		case ended:
			return nil, errEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// scan looks for a match from the cursor on and moves the cursor: past the match, or past all whole lines.
func (c *Console) scan(re *regexp.Regexp) []string {
	lines := c.all()
	for ; c.line < len(lines); c.line, c.col = c.line+1, 0 {
		rest := lines[c.line][min(c.col, len(lines[c.line])):]
		if at := re.FindStringSubmatchIndex(rest); at != nil {
			match := re.FindStringSubmatch(rest)
			c.col += at[1]
			return match
		}
		if c.line >= len(c.lines) {
			return nil // unfinished: more of this line may come
		}
	}
	return nil
}

// each waits for a whole line that matches, from the first one on, without moving the cursor.
func (c *Console) each(ctx context.Context, match func(string) bool) error {
	for i := 0; ; {
		c.mu.Lock()
		lines, ended, changed := c.lines, c.ended, c.changed
		c.mu.Unlock()
		for ; i < len(lines); i++ {
			if match(lines[i]) {
				return nil
			}
		}
		if ended {
			return errEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// find gives the first line with a match, without moving the cursor; "" if there is none.
func (c *Console) find(re *regexp.Regexp) string {
	for _, line := range c.Lines() {
		if re.MatchString(line) {
			return line
		}
	}
	return ""
}

func (c *Console) tail() string {
	lines := c.Lines()
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
