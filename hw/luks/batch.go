package luks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"initd/hw/sysfs"
)

// Outcome is what became of one volume.
type Outcome struct {
	Params Params // valid if Err is nil
	Err    error  // *OpenError
}

// OpenError is a volume that was not opened. The reason below it is one of this package's types, or from dm.
type OpenError struct {
	Name, Device string
	Err          error
}

func (e *OpenError) Error() string  { return fmt.Sprintf("unlock %s (%s): %v", e.Name, e.Device, e.Err) }
func (e *OpenError) Unwrap() error  { return e.Err }
func (e *OpenError) Object() string { return e.Device }

// Deriver starts Derive in a process of its own, with these files and no others but its standard streams, before it
// returns; the process must be forked from the calling thread (os/exec does), which has the session keyring. What Derive
// tells comes through tell, from any goroutine, until wait returns. An error of wait means that the process crashed, was
// killed, or that ctx ended.
type Deriver func(ctx context.Context, files []*os.File, p DeriveParams, tell func(Told)) (wait func() error, err error)

// Batch is how volumes are opened.
type Batch struct {
	Derive    Deriver
	MemoryKiB uint64 // what argon2 may take; 0 means AvailableMemory
	// Opened, if set, hears what became of the volume at a position as soon as that is known; Doing hears what is being
	// done for it. Both are called by one goroutine, and nothing goes on meanwhile.
	Opened func(i int, o Outcome)
	Doing  func(i int, what string)
}

// OpenBatch opens volumes, each as soon as its key is derived, and returns one outcome for each, in order. A volume that
// crashes derive costs the others a second attempt, one by one, and nothing else; one whose header asks for endless work
// ends with ctx, alone (UnfinishedError). OpenBatch holds no key at any time. It needs CAP_SYS_ADMIN and blocks as long
// as the devices do: run it in a process that may be abandoned.
func OpenBatch(ctx context.Context, volumes []Volume, o Batch) ([]Outcome, error) {
	return openBatch(ctx, volumes, o, firstLimit)
}

func openBatch(ctx context.Context, volumes []Volume, o Batch, limit time.Duration) ([]Outcome, error) {
	if o.MemoryKiB == 0 {
		root, err := sysfs.Open("/")
		if err != nil {
			return nil, err
		}
		defer root.Close()
		if o.MemoryKiB, err = AvailableMemory(root); err != nil {
			return nil, err
		}
	}
	n := len(volumes)
	b := &batch{Batch: o, volumes: volumes, outcomes: make([]Outcome, n), answered: make([]bool, n), ended: make([]bool, n), doing: make([]doing, n), start: time.Now()}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and with it its session keyring.
		runtime.LockOSThread()
		ring, err := joinSession()
		if err == nil {
			b.mappers, err = startMappers(ctx, ring, n, b.activate)
		}
		if err != nil {
			done <- err
			return
		}
		b.run(ctx, limit)
		close(b.mappers.work)
		done <- leaveSession()
	}()
	return b.outcomes, <-done
}

type batch struct {
	Batch
	volumes  []Volume
	outcomes []Outcome
	answered []bool // by derive
	ended    []bool // its outcome was told
	mappers  mappers
	doing    []doing
	start    time.Time
}

// doing is what was last begun for a volume.
type doing struct {
	what  string
	since time.Time
}

// run opens all volumes by one derive. If that dies, one of those that it had not answered is to blame: each gets a
// derive of its own then, for so long at first, so that one that never ends does not keep the next from its turn.
func (b *batch) run(ctx context.Context, limit time.Duration) {
	left := make([]int, len(b.volumes))
	for i := range left {
		left[i] = i
	}
	left, err := b.pass(ctx, ctx, left)
	if len(b.volumes) == 1 && len(left) == 1 && ctx.Err() == nil {
		b.fail(left[0], &CrashedError{err})
		left = nil
	}
	for ; len(left) > 0 && ctx.Err() == nil; limit *= 2 {
		left = b.oneByOne(ctx, left, limit)
	}
	for late := ctx.Done(); slices.Contains(b.ended, false); {
		select {
		case m := <-b.mappers.done:
			b.mapped(m)
		case <-late:
			b.giveUp(ctx)
		}
	}
}

// giveUp fails the volumes that have no answer yet, because their time is over.
func (b *batch) giveUp(ctx context.Context) {
	for i := range b.volumes {
		if b.ended[i] {
			continue
		}
		e := &UnfinishedError{Doing: b.doing[i].what, Err: context.Cause(ctx)}
		if e.Doing != "" {
			e.Long = b.doing[i].since.Sub(b.start) < time.Since(b.doing[i].since)
		}
		b.fail(i, e)
	}
}

// firstLimit is what a volume by itself may take before the next one has its turn.
const firstLimit = 5 * time.Second

// oneByOne returns those that had no answer within the limit.
func (b *batch) oneByOne(ctx context.Context, which []int, limit time.Duration) (left []int) {
	for _, i := range which {
		within, cancel := context.WithTimeout(ctx, limit)
		none, err := b.pass(ctx, within, []int{i})
		late := within.Err() != nil
		cancel()
		switch {
		case len(none) == 0:
		case late:
			left = append(left, i)
		default:
			b.fail(i, &CrashedError{err})
		}
	}
	return left
}

// pass runs one derive for the volumes at these positions and activates what it answers. It returns those without an
// answer, and why there is none. When ctx ends within does too, and nobody waits for derive to be gone.
func (b *batch) pass(ctx, within context.Context, which []int) (left []int, err error) {
	var files []*os.File
	p := DeriveParams{MemoryKiB: b.MemoryKiB}
	for _, i := range which {
		v, err := describeVolume(b.volumes[i], &files)
		if err != nil {
			b.answered[i] = true
			b.fail(i, err)
			continue
		}
		p.Volumes = append(p.Volumes, v)
		left = append(left, i)
	}
	if len(left) == 0 {
		return nil, nil
	}
	asked := left
	told, over := make(chan Told), make(chan struct{})
	defer close(over)
	wait, err := b.Derive(within, files, p, func(t Told) {
		select {
		case told <- t:
		case <-over: // a derive that was given up goes on telling
		}
	})
	if err != nil {
		return left, err
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	late := ctx.Done()
	for {
		select {
		case t := <-told:
			if t.Volume < 0 || t.Volume >= len(asked) || b.answered[asked[t.Volume]] {
				continue // derive may have been taken over
			}
			b.heard(asked[t.Volume], t)
		case m := <-b.mappers.done:
			b.mapped(m)
		case <-late:
			late = nil
			b.giveUp(ctx)
		case err := <-ended:
			left := slices.DeleteFunc(asked, func(i int) bool { return b.answered[i] })
			if err == nil {
				err = errors.New("it ended without a result")
			}
			return left, err
		}
	}
}

func (b *batch) heard(i int, t Told) {
	b.answered[i] = t.Result != nil
	switch {
	case t.Result == nil:
		b.does(i, t.Doing)
	case t.Result.Params != nil:
		b.does(i, "making the mapping")
		b.mappers.work <- mapping{volume: i, params: *t.Result.Params}
	case t.Result.Failure != nil:
		b.fail(i, t.Result.Failure.Err())
	default:
		b.fail(i, &CrashedError{errors.New("it gave neither a result nor an error")})
	}
}

func (b *batch) does(i int, what string) {
	b.doing[i] = doing{what, time.Now()}
	if b.Doing != nil && !b.ended[i] {
		b.Doing(i, what)
	}
}

// activate runs on the mappers' threads.
func (b *batch) activate(ctx context.Context, ring int, m mapping) error {
	v := b.volumes[m.volume]
	device, err := blockDevice(v.Data)
	if err != nil {
		return err
	}
	if err := m.params.check(); err != nil {
		return err
	}
	return activateFrom(ctx, ring, Activation{Name: v.Name, Device: device, Params: m.params, ReadOnly: v.ReadOnly, Discards: v.Discards})
}

func (b *batch) mapped(m mapping) {
	if m.err != nil {
		b.fail(m.volume, m.err)
		return
	}
	b.end(m.volume, Outcome{Params: m.params})
}

func (b *batch) fail(i int, err error) {
	v := b.volumes[i]
	b.end(i, Outcome{Err: &OpenError{v.Name, v.Data.Name(), err}})
}

func (b *batch) end(i int, o Outcome) {
	if b.ended[i] {
		return // it was given up before
	}
	b.outcomes[i], b.ended[i] = o, true
	if b.Opened != nil {
		b.Opened(i, o)
	}
}
