package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"initd/boot/plan"
	"initd/hw/block"
	"initd/hw/block/media"
	"initd/hw/sysfs"
	"initd/hw/uevent"
)

// BlockWatcher watches block devices and answers which one a name means. Media
// are read in children.
type BlockWatcher struct {
	Sys      *sysfs.FS
	Source   uevent.Source
	Children Children
	// Finders answer for what is no block/… by class: iscsi, nvme. Set before
	// the first use.
	Finders map[string]Finder

	late   chan struct{}   // something was applied outside of Watch
	settle chan chan error // told once all that is there now has been posted, or why that cannot be

	mu     sync.Mutex
	world  *block.World // guarded by mu
	looked bool         // guarded by mu; FindNow was here, at the begin of the boot, when nobody else writes
}

// NewBlockWatcher makes a watcher over sys (the root of /sys and /proc).
func NewBlockWatcher(sys *sysfs.FS, source uevent.Source, children Children) *BlockWatcher {
	return &BlockWatcher{Sys: sys, Source: source, Children: children, late: make(chan struct{}, 1), settle: make(chan chan error), world: block.NewWorld()}
}

// Classes of the resources that it answers for.
func (w *BlockWatcher) Classes() []string { return []string{plan.ClassBlock} }

// Device returns the node that a resource means right now.
func (w *BlockWatcher) Device(r plan.Resource) (string, error) {
	if r.Class() == plan.ClassLUKS {
		return "/dev/mapper/" + r.Name(), nil
	}
	if find := w.Finders[r.Class()]; find != nil {
		return find(r)
	}
	d, reason := w.resolve(r)
	if reason.OK() && w.lookAbove(d) {
		d, reason = w.resolve(r)
	}
	if !reason.OK() {
		return "", errors.New(reason.Text)
	}
	return d.Node(), nil
}

func (w *BlockWatcher) resolve(r plan.Resource) (block.Device, block.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.world.Resolve(r.Name(), nil)
}

// lookAbove reads what stands on a device at this moment, which events may yet
// have to tell, and says whether that is news: the kernel lets whoever makes a
// dm device open a leg of another (_dm_claim_ptr, drivers/md/dm.c).
func (w *BlockWatcher) lookAbove(d block.Device) bool {
	now, err := block.Read(w.Sys, d.Name)
	if err != nil || slices.Equal(now.Holders, d.Holders) {
		return false
	}
	for _, name := range now.Holders {
		if above, err := block.Read(w.Sys, name); err == nil && !slices.Contains(d.Holders, name) {
			w.stir(block.Seen{Device: above})
		}
	}
	w.stir(block.Seen{Device: now})
	return true
}

// Settle returns when the engine has been told of all that is there at this
// moment. A unit that made a device above others waits for it before it is
// done: from then on their names may be used, and have to mean the new one.
func (w *BlockWatcher) Settle(ctx context.Context) error {
	told := make(chan error, 1) // whoever asked may be gone
	select {
	case w.settle <- told:
		select {
		case err := <-told:
			return err
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return fmt.Errorf("look at the block devices: %w", context.Cause(ctx))
}

// alsoSettle adds who waits for that by now: one look is enough for all of them.
func (w *BlockWatcher) alsoSettle(first chan error) []chan error {
	waiting := []chan error{first}
	for {
		select {
		case told := <-w.settle:
			waiting = append(waiting, told)
		default:
			return waiting
		}
	}
}

// Finder returns the node that a resource means right now.
type Finder func(r plan.Resource) (string, error)

// Finders are those of a plan's fabrics; run is /run/initd.
func Finders(p *plan.Plan, sys *sysfs.FS, run string) map[string]Finder {
	return map[string]Finder{plan.ClassNVMe: nvmeFinder(p, sys), plan.ClassISCSI: iscsiFinder(p, sys, run)}
}

// FindNow looks at the devices that are there this instant, reads what is on
// them, and tells which one r means; an error says why none. A device that
// does not answer until ctx ends holds it up no longer than that, and is read
// nevertheless.
func (w *BlockWatcher) FindNow(ctx context.Context, r plan.Resource) (string, error) {
	if err := w.enumerate(false); err != nil {
		return "", err
	}
	w.mu.Lock()
	list := w.world.ToProbe()
	w.looked = true
	w.mu.Unlock()
	all := make(chan struct{})
	go func() {
		defer close(all)
		w.probe(context.WithoutCancel(ctx), list, w.answered)
	}()
	select {
	case <-all:
	case <-ctx.Done():
	}
	return w.Device(r)
}

// answered applies an answer outside of Watch, and stirs that.
func (w *BlockWatcher) answered(p probed) {
	w.stir(block.Probed{Request: p.request, Content: p.content, Failure: p.failure})
}

func (w *BlockWatcher) stir(c block.Change) {
	w.apply(c)
	select {
	case w.late <- struct{}{}:
	default:
	}
}

// probeLater is how long devices that nobody waits for are left unread: all
// that is asked for is there, and what comes then are mostly the volumes that
// this boot opens, one after the other.
const probeLater = time.Second

func (w *BlockWatcher) unread() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.world.Unread()
}

// probed is the answer of a probing child.
type probed struct {
	request block.Request
	content media.Content
	failure string
}

// Watch subscribes, then enumerates; after lost events it enumerates again.
func (w *BlockWatcher) Watch(ctx context.Context, interests <-chan []plan.Resource, post func([]plan.Fact)) error {
	events, err := uevent.Subscribe(ctx, w.Source)
	if err != nil {
		return fmt.Errorf("watch block devices: %w", err)
	}
	results := make(chan probed)
	t := &tracker{post: post, now: w.fact, known: map[plan.Resource]plan.Fact{}}
	w.mu.Lock()
	looked := w.looked
	w.looked = false
	w.mu.Unlock()
	if err := w.enumerate(looked); err != nil {
		return err
	}
	var later <-chan time.Time
	for {
		switch {
		case !t.satisfied():
			w.startProbes(ctx, results)
			later = nil
		case later == nil && w.unread():
			later = time.After(probeLater)
		}
		t.update()
		select {
		case <-ctx.Done():
			return nil
		case <-later:
			w.startProbes(ctx, results)
			later = nil
		case list, ok := <-interests:
			if !ok {
				interests = nil
			}
			t.add(list)
		case <-w.late:
		case told := <-w.settle:
			waiting := w.alsoSettle(told)
			err := w.enumerate(true)
			if err == nil {
				t.update()
			}
			for _, told := range waiting {
				told <- err
			}
			if err != nil {
				return err
			}
		case p := <-results:
			w.apply(block.Probed{Request: p.request, Content: p.content, Failure: p.failure})
		case e, ok := <-events:
			if !ok {
				return nil
			}
			if err := w.takeIn(e, events); err != nil {
				return err
			}
		}
	}
}

// eventsAtOnce bounds how many events are taken in before what they change is
// told.
const eventsAtOnce = 256

// takeIn applies an event, and those that wait behind it: a login brings some
// twenty, and after each of them everybody's names would be looked up anew.
func (w *BlockWatcher) takeIn(e uevent.Event, more <-chan uevent.Event) error {
	for n := 1; ; n++ {
		if err := w.event(e); err != nil || n == eventsAtOnce {
			return err
		}
		var ok bool
		select {
		case e, ok = <-more:
			if !ok {
				return nil // Watch hears it too
			}
		default:
			return nil
		}
	}
}

func (w *BlockWatcher) event(e uevent.Event) error {
	switch {
	case e.Action == uevent.Failed:
		return fmt.Errorf("watch block devices: %w", e.Err)
	case e.Action == uevent.Overflow:
		return w.enumerate(false)
	case e.Subsystem != "block":
		return nil
	case e.Action == uevent.Remove:
		w.apply(block.Gone{Name: e.Name()})
		return nil
	}
	d, err := block.Read(w.Sys, e.Name())
	if err != nil {
		w.apply(block.Gone{Name: e.Name()}) // gone again; its own event follows
		return nil
	}
	w.see(d)
	return nil
}

// see takes in what was read of a device, after what stands on it.
func (w *BlockWatcher) see(d block.Device) {
	w.above(d)
	w.apply(block.Seen{Device: d})
}

// above takes in what stands on a device and was not seen yet: its own event
// may be far behind, and until then nobody could say whether it is a map,
// which has to be used instead, or a volume.
func (w *BlockWatcher) above(d block.Device) {
	for _, name := range d.Holders {
		w.mu.Lock()
		_, known := w.world.Device(name)
		w.mu.Unlock()
		if known {
			continue
		}
		if above, err := block.Read(w.Sys, name); err == nil {
			w.see(above)
		}
	}
}

// enumerate lists what there is; unchanged, nobody has written since that was last done.
func (w *BlockWatcher) enumerate(unchanged bool) error {
	list, err := block.Scan(w.Sys)
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	all := block.Enumerated{Unchanged: unchanged}
	for _, d := range list {
		all.Devices = append(all.Devices, block.Seen{Device: d})
	}
	w.apply(all)
	for _, d := range list {
		w.above(d) // it came while they were read
	}
	return nil
}

func (w *BlockWatcher) apply(c block.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.world.Apply(c)
}

// probeDeadline bounds reading one batch of media; a device that has not
// answered by then is read again after probeAgain, or when the process that
// reads it has gone after all.
const (
	probeDeadline = 20 * time.Second
	probeAgain    = 30 * time.Second
)

// startProbes reads the media that want it, in one child for all of them.
func (w *BlockWatcher) startProbes(ctx context.Context, results chan<- probed) {
	w.mu.Lock()
	list := w.world.ToProbe()
	w.mu.Unlock()
	if len(list) == 0 {
		return
	}
	go w.probe(ctx, list, func(p probed) {
		select {
		case results <- p:
		case <-ctx.Done():
		}
	})
}

// probe reads media and tells of each exactly once: those that no child before
// is still at in one child, each of the others by itself once it is free.
func (w *BlockWatcher) probe(ctx context.Context, list []block.Request, tell func(probed)) {
	past, cancel := context.WithCancel(ctx)
	cancel()
	var free []block.Request
	var wg sync.WaitGroup
	for _, r := range list {
		if w.Children.Free(past, r.Node) == nil {
			free = append(free, r)
			continue
		}
		wg.Go(func() { w.probeTogether(ctx, []block.Request{r}, tell) })
	}
	if len(free) > 0 {
		w.probeTogether(ctx, free, tell)
	}
	wg.Wait()
}

func (w *BlockWatcher) probeTogether(life context.Context, list []block.Request, tell func(probed)) {
	ctx, cancel := context.WithTimeout(life, probeDeadline)
	defer cancel()
	var mu sync.Mutex
	answered := make([]bool, len(list))
	once := func(i int, p probed) bool {
		mu.Lock()
		was := answered[i]
		answered[i] = true
		mu.Unlock()
		if !was {
			p.request = list[i]
			tell(p)
		}
		return !was
	}
	nodes := make([]string, len(list))
	for i, r := range list {
		nodes[i] = r.Node
	}
	_, err := w.Children.Run(ctx, Call{Func: "probe", Unit: "block", Params: list, Objects: nodes, Progress: func(m ChildProgress) {
		if m.Index < 0 || m.Index >= len(list) {
			return
		}
		var p probed
		if m.Error != nil {
			p.failure = m.Error.Message
		} else if err := json.Unmarshal(m.Result, &p.content); err != nil {
			p.failure = err.Error()
		}
		once(m.Index, p)
	}})
	for i := range list {
		if once(i, probed{failure: fmt.Sprintf("%s was not read: %v", list[i].Node, err)}) && life.Err() == nil {
			go w.again(life, list[i].Name, err)
		}
	}
}

// again has a device read once more, that did not answer.
func (w *BlockWatcher) again(ctx context.Context, name string, err error) {
	var freed <-chan struct{}
	var stuck interface{ Freed() <-chan struct{} }
	t := time.NewTimer(probeAgain)
	defer t.Stop()
	due := t.C
	if errors.As(err, &stuck) {
		freed, due = stuck.Freed(), nil
	}
	select {
	case <-freed:
	case <-due:
	case <-ctx.Done():
		return
	}
	w.stir(block.Reread{Name: name})
}

// probeMedia is the child probe: every medium is read at once, so that one
// that hangs holds no other back.
func probeMedia(_ context.Context, in *ChildInput, list []block.Request) (any, error) {
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() {
			m := ChildProgress{Index: i, Done: true}
			c, err := media.ProbeDevice(r.Node)
			if err != nil {
				m.Error = &ChildError{Message: err.Error()}
			} else if m.Result, err = json.Marshal(c); err != nil {
				m.Error = &ChildError{Message: err.Error()}
			}
			in.Tell(m)
		})
	}
	wg.Wait()
	return nil, nil
}

// fact says what a resource is right now.
func (w *BlockWatcher) fact(r plan.Resource) plan.Fact {
	d, reason := w.resolve(r)
	if !reason.OK() {
		return plan.Fact{Resource: r, Reason: reason.Text}
	}
	return plan.Fact{Resource: r, Present: true, Generation: d.DiskSeq, Attrs: map[string]string{"dev": d.Node()}}
}
