package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"initd/v2v/image"
	"initd/v2v/self"
)

// process is the parent's end of a child.
type process struct {
	name   string
	src    Source // of siblings; nil for a stream
	opt    Options
	child  *self.Child
	socket *waiting
	mem    []byte
	free   chan uint32 // slots without a question
	answer []chan message
	asked  []atomic.Bool // a question is in flight on the slot

	sending  sync.Mutex
	answered atomic.Int64 // processor time of the child at its last answer, in ns
	siblings atomic.Int32

	mu    sync.Mutex
	cause error // why we ended it; wins over what its death looks like

	gone chan struct{} // closed once the child was reaped; err says why
	err  error

	mapping sync.RWMutex // read-held while a slot is used, so that Close does not unmap it under a reader
	unmap   sync.Once
}

// errClosed is what questions get after Close.
var errClosed = errors.New("the reader is closed")

// ask puts a question and waits for its answer, which is in the slot until done is called.
func (p *process) ask(ctx context.Context, m message) (reply message, slot []byte, done func(), err error) {
	select {
	case m.slot = <-p.free:
	case <-p.gone:
		return message{}, nil, nil, p.err
	case <-ctx.Done():
		return message{}, nil, nil, context.Cause(ctx)
	}
	if err := p.post(m); err != nil {
		return message{}, nil, nil, err
	}
	return p.await(ctx, m.slot)
}

// post sends a question for a slot that the caller holds.
func (p *process) post(m message) error {
	p.asked[m.slot].Store(true)
	err := p.send(m, -1)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EPIPE) { // of a child that is there
		p.end(fmt.Errorf("ask the reader of %s: %w", p.name, err))
	}
	p.hungUp()
	return p.err
}

// hungUp waits for the end of a child that has closed its socket, which says why. One that lives on without is not waited for.
func (p *process) hungUp() {
	t := time.NewTimer(p.opt.Busy)
	defer t.Stop()
	select {
	case <-p.gone:
	case <-t.C:
		p.end(protocol(p.name, "nothing any more"))
		<-p.gone
	}
}

// await waits for the answer in a slot. After an error that is not the answer the child is gone, and the slot is never used again.
func (p *process) await(ctx context.Context, slot uint32) (reply message, data []byte, done func(), err error) {
	reply, err = p.wait(ctx, slot)
	if err != nil {
		return message{}, nil, nil, err
	}
	if reply.failed {
		p.free <- slot
		return message{}, nil, nil, decodeFault(reply.text, p.name)
	}
	p.mapping.RLock()
	if p.mem == nil {
		p.mapping.RUnlock()
		return message{}, nil, nil, errClosed
	}
	return reply, p.mem[int(slot)*SlotSize:][:SlotSize:SlotSize], func() {
		p.mapping.RUnlock()
		p.free <- slot
	}, nil
}

func (p *process) wait(ctx context.Context, slot uint32) (message, error) {
	began := time.Now()
	timer := time.NewTimer(p.opt.Busy)
	defer timer.Stop()
	for {
		select {
		case reply := <-p.answer[slot]:
			return reply, nil
		case <-p.gone:
			return message{}, p.err
		case <-ctx.Done():
			p.end(context.Cause(ctx))
			<-p.gone
			return message{}, p.err
		case <-timer.C:
			wait, err := p.alive(began)
			if err != nil {
				p.end(err)
				<-p.gone
				return message{}, p.err
			}
			timer.Reset(wait)
		}
	}
}

// alive judges a child that has not answered for a while, and says when to look again.
func (p *process) alive(began time.Time) (time.Duration, error) {
	if time.Since(began) >= p.opt.Quiet {
		return 0, &image.Error{Fault: image.Corrupt, Code: CodeSilent, Image: p.name,
			What: fmt.Sprintf("nothing could be read for %v: the disk below it does not answer", p.opt.Quiet),
			Do:   "see whether the file can be read at all, then try again"}
	}
	used := p.cpu() - time.Duration(p.answered.Load())
	if used >= p.opt.Busy {
		return 0, &image.Error{Fault: image.Corrupt, Code: CodeBusy, Image: p.name,
			What: fmt.Sprintf("reading it led nowhere within %v of computing, as an image does that was made to keep its reader busy", p.opt.Busy),
			Do:   "fetch it again from whom you trust"}
	}
	return max(p.opt.Busy-used, 100*time.Millisecond), nil
}

// cpu is the processor time that the child has used.
func (p *process) cpu() time.Duration {
	var ts unix.Timespec
	clock := int32(^p.child.PID()<<3 | 2) // CPUCLOCK_SCHED of a process, clock_getcpuclockid(3)
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (p *process) send(m message, fd int) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.socket.send(m, fd, p.opt.Quiet)
}

// listen receives until the child closes its end. It trusts no number that it is told.
func (p *process) listen() {
	room := make([]byte, maxMessage+1)
	for {
		m, fd, err := p.socket.receive(room)
		closeFD(fd) // nothing that a child could hand over is wanted
		if err != nil {
			p.end(protocol(p.name, err.Error()))
			return
		}
		if m.op == 0 {
			p.hungUp()
			return
		}
		if m.op == opSibling {
			if p.siblings.Add(1) > maxSiblings {
				p.end(&image.Error{Fault: image.Refused, Code: "too-many-files", Image: p.name, What: fmt.Sprintf("it names more than %d further files", maxSiblings)})
				return
			}
			p.sibling(string(m.text))
			continue
		}
		if int(m.slot) >= len(p.asked) || !p.asked[m.slot].CompareAndSwap(true, false) {
			p.end(protocol(p.name, "an answer to no question"))
			return
		}
		p.answered.Store(int64(p.cpu()))
		p.answer[m.slot] <- m // has room: one question, one answer
	}
}

// sibling opens what the child asks for, or says why not.
func (p *process) sibling(name string) {
	f, err := p.openSibling(name)
	if err != nil {
		_ = p.send(message{op: opSibling, failed: true, text: encodeFault(err)}, -1)
		return
	}
	defer f.Close()
	_ = p.send(message{op: opSibling, n: f.Size()}, int(f.File().Fd())) // the descriptor lives on in the child
}

func (p *process) openSibling(name string) (Source, error) {
	if p.src == nil {
		return nil, errors.New("a stream has no further files")
	}
	s, err := p.src.Sibling(name)
	if err != nil {
		return nil, err
	}
	f, ok := s.(Source)
	if !ok {
		s.Close()
		return nil, fmt.Errorf("%s: %s is no file that could be handed over", p.name, Clean(name))
	}
	return f, nil
}

// end kills the child; the first cause is the one that questions get.
func (p *process) end(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		p.cause = cause
		p.child.Kill()
	}
}

func (p *process) close() {
	p.end(errClosed)
	<-p.gone
	p.unmap.Do(func() {
		p.mapping.Lock()
		defer p.mapping.Unlock()
		mem := p.mem
		p.mem = nil
		_ = unix.Munmap(mem)
		p.socket.close()
	})
}

// opening asks opOpen or opStream, and believes no more than is possible.
func (p *process) opening(ctx context.Context, o op, size int64) (description, error) {
	text, err := json.Marshal(request{Name: p.name, Size: size, Format: p.opt.Format, Open: p.opt.Open})
	if err != nil {
		return description{}, err
	}
	reply, slot, done, err := p.ask(ctx, message{op: o, text: text})
	if err != nil {
		return description{}, err
	}
	defer done()
	if reply.n < 0 || reply.n > int64(len(slot)) {
		return description{}, protocol(p.name, "a description without an end")
	}
	var d description
	// A copy: the child can still write to the slot.
	if err := json.Unmarshal(bytes.Clone(slot[:reply.n]), &d); err != nil {
		return description{}, protocol(p.name, "a description that cannot be read")
	}
	if d.Size < 0 || d.Size%image.Sector != 0 || p.opt.Open.MaxSize > 0 && d.Size > p.opt.Open.MaxSize {
		return description{}, protocol(p.name, fmt.Sprintf("a size of %d bytes", d.Size))
	}
	if u := d.Info.Unit; u < 0 || u&(u-1) != 0 {
		return description{}, protocol(p.name, fmt.Sprintf("a unit of %d bytes", u))
	}
	d.Info = cleanInfo(d.Info)
	d.Info.Size = d.Size
	return d, nil
}

func cleanInfo(i image.Info) image.Info {
	i.Format, i.Subformat, i.Compressed = Clean(i.Format), Clean(i.Subformat), Clean(i.Compressed)
	for k := range i.Files {
		i.Files[k] = Clean(i.Files[k])
	}
	for k, d := range i.Details {
		i.Details[k] = image.Detail{Name: Clean(d.Name), Value: Clean(d.Value)}
	}
	for k := range i.Warnings {
		i.Warnings[k] = Clean(i.Warnings[k])
	}
	if i.Counts != nil {
		i.Counts.Not, i.Counts.NotLeaked = Clean(i.Counts.Not), Clean(i.Counts.NotLeaked)
		for k := range i.Counts.First {
			i.Counts.First[k] = Clean(i.Counts.First[k])
		}
	}
	return i
}

// callOnce asks opCall.
func (p *process) callOnce(ctx context.Context, name string, input []byte) ([]byte, error) {
	text, err := json.Marshal(request{Call: name, Input: input, Name: p.name, Size: p.src.Size()})
	if err != nil {
		return nil, err
	}
	reply, slot, done, err := p.ask(ctx, message{op: opCall, text: text})
	if err != nil {
		return nil, err
	}
	defer done()
	if reply.n < 0 || reply.n > int64(len(slot)) {
		return nil, protocol(p.name, "a text without an end")
	}
	return bytes.Clone(slot[:reply.n]), nil
}
