package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
)

// Main must be the first thing that a program with children calls. In a child it does not return; in the program itself it does nothing.
func Main(roles Roles) {
	if len(os.Args) < 2 || os.Args[1] != arg {
		return
	}
	if err := serve(roles); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitCannotServe)
	}
	os.Exit(0)
}

const (
	exitCannotServe = 125
	exitNotConfined = 126
)

// setup is what the parent decides, as text in the environment: none of it is secret.
const (
	envMemory = "V2V_READ_MEMORY"
	envSlots  = "V2V_READ_SLOTS"
	envParent = "V2V_READ_PARENT"
)

func serve(roles Roles) error {
	// People stop the program by name, or from the keyboard; what becomes of the child then is the parent's decision.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP)
	if _, err := unix.GetsockoptInt(fdSocket, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return errors.New(arg + " is for the program itself: it reads an image on behalf of another process")
	}
	memory, err1 := strconv.ParseInt(os.Getenv(envMemory), 10, 64)
	slots, err2 := strconv.Atoi(os.Getenv(envSlots))
	parent, err3 := strconv.Atoi(os.Getenv(envParent))
	if err := errors.Join(err1, err2, err3); err != nil || slots < 1 || slots > maxSlots {
		return fmt.Errorf("read an image for another process: it did not say how: %v", err)
	}
	// Said explicitly, it is not looked up in cgroup files later. One more than there are processors is for waiting for questions, a call that the runtime
	// takes for a short one, and one is to be free: as long as none is, the runtime looks 50,000 times a second whether one could be.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	// Without this, ps and pkill would see the name of the link that it was started by. The file is the one of the first thread.
	if err := os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0); err != nil {
		return fmt.Errorf("take the parent's name: %w", err)
	}
	mem, err := unix.Mmap(fdSlots, 0, slots*SlotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the shared buffers: %w", err)
	}
	unix.Close(fdSlots)
	if err := dropRights(memory, parent); err != nil {
		fmt.Fprintln(os.Stderr, "give up rights:", err)
		os.Exit(exitNotConfined)
	}
	c := &child{roles: roles, mem: mem, siblings: make(chan siblingAnswer)}
	return c.listen()
}

// child answers questions; it lives as long as its socket.
type child struct {
	roles    Roles
	mem      []byte
	reader   image.Reader   // once opOpen was answered
	stream   image.Streamer // once opStream was answered
	siblings chan siblingAnswer
	asking   chan struct{} // one sibling is asked for at a time
}

type siblingAnswer struct {
	fd  int
	msg message
}

// listen is the only one who receives. Questions are answered concurrently, but for a stream's, which are in order.
func (c *child) listen() error {
	c.asking = make(chan struct{}, 1)
	next := make(chan message, maxSlots)
	go func() {
		for m := range next {
			c.answer(m, c.next)
		}
	}()
	room := make([]byte, maxMessage+1)
	for {
		m, fd, err := receive(fdSocket, room)
		if err != nil || m.op == 0 {
			return err
		}
		switch m.op {
		case opSibling:
			c.siblings <- siblingAnswer{fd: fd, msg: m}
		case opNext:
			next <- m
		case opRead:
			go c.answer(m, c.read)
		case opExtents:
			go c.answer(m, c.extents)
		case opOpen:
			go c.answer(m, c.open)
		case opStream:
			go c.answer(m, c.openStream)
		case opCall:
			go c.answer(m, c.call)
		default:
			return fmt.Errorf("unknown question %d", m.op)
		}
	}
}

// answer lets a question be answered into its slot.
func (c *child) answer(m message, by func(m message, slot []byte) (off, n int64, err error)) {
	slot := c.mem[int(m.slot)*SlotSize:][:SlotSize:SlotSize]
	off, n, err := by(m, slot)
	reply := message{op: m.op, slot: m.slot, off: off, n: n}
	if err != nil {
		reply.failed, reply.text = true, encodeFault(err)
	}
	if err := send(fdSocket, reply, -1); err != nil {
		os.Exit(0) // the parent has gone
	}
}

func (c *child) read(m message, slot []byte) (int64, int64, error) {
	n, err := c.reader.ReadAt(slot[:m.n], m.off)
	if err == io.EOF && int64(n) == m.n {
		err = nil
	}
	return m.off, int64(n), err
}

func (c *child) extents(m message, slot []byte) (int64, int64, error) {
	n := int64(0)
	for e, err := range c.reader.Extents(m.off) {
		if err != nil {
			return m.off, 0, err
		}
		putExtent(slot[n*extentSize:], e)
		if n++; n == extentsPage {
			break
		}
	}
	return m.off, n, nil
}

func (c *child) next(_ message, slot []byte) (int64, int64, error) {
	off, data, err := c.stream.Next()
	if err != nil {
		return 0, 0, err
	}
	if len(data) > len(slot) {
		return 0, 0, fmt.Errorf("a piece of %d bytes is larger than the %d that can be handed over", len(data), len(slot))
	}
	return off, int64(copy(slot, data)), nil
}

func (c *child) open(m message, slot []byte) (int64, int64, error) {
	var r request
	if err := json.Unmarshal(m.text, &r); err != nil {
		return 0, 0, err
	}
	src := &source{child: c, fd: fdSource, name: r.Name, size: r.Size}
	reader, err := c.roles.Open(context.Background(), src, r.Format, r.Open)
	if err != nil {
		return 0, 0, err
	}
	c.reader = reader
	return describe(slot, description{Size: reader.Size(), Info: reader.Info()})
}

func (c *child) openStream(m message, slot []byte) (int64, int64, error) {
	var r request
	if err := json.Unmarshal(m.text, &r); err != nil {
		return 0, 0, err
	}
	if c.roles.Stream == nil {
		return 0, 0, errors.New("this program reads no streams")
	}
	stream, err := c.roles.Stream(context.Background(), pipe(fdSource), r.Name, r.Format, r.Open)
	if err != nil {
		return 0, 0, err
	}
	c.stream = stream
	return describe(slot, description{Size: stream.Size(), Info: stream.Info()})
}

func (c *child) call(m message, slot []byte) (int64, int64, error) {
	var r request
	if err := json.Unmarshal(m.text, &r); err != nil {
		return 0, 0, err
	}
	f, ok := c.roles.Calls[r.Call]
	if !ok {
		return 0, 0, fmt.Errorf("this program does not know %q", r.Call)
	}
	out, err := f(context.Background(), &source{child: c, fd: fdSource, name: r.Name, size: r.Size}, r.Input)
	if err != nil {
		return 0, 0, err
	}
	if len(out) > len(slot) {
		return 0, 0, fmt.Errorf("an answer of %d bytes is larger than the %d that can be handed over", len(out), len(slot))
	}
	return 0, int64(copy(slot, out)), nil
}

func describe(slot []byte, d description) (int64, int64, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return 0, 0, err
	}
	if len(b) > len(slot) {
		return 0, 0, fmt.Errorf("a description of %d bytes is larger than the %d that can be handed over", len(b), len(slot))
	}
	return 0, int64(copy(slot, b)), nil
}
