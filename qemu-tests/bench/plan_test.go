package bench

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/boot/plan"
	"initd/boot/report"
	"initd/boot/step"
)

// noop is an action that has nothing to do.
type noop struct{}

func (noop) Check(context.Context, *plan.Unit) (engine.Checked, error) {
	return engine.Checked{Answer: engine.Absent}, nil
}
func (noop) Apply(context.Context, *plan.Unit, func(engine.Progress)) error { return nil }
func (noop) Rollback(context.Context, *plan.Unit) error                     { return nil }

// discard is a log that keeps nothing.
type discard struct{}

func (discard) Append(*report.Event) error { return nil }

// A file of so many units: volumes with a key from KMIP and a mount each, read as an appliance's file is, compiled by all
// kinds, and run to ready with actions that do nothing. The limit is one second for 10,000 units, and growth that is near
// linear: what a unit takes at 10,000 against what it takes at 1,000 (at 100 it is the start of things that shows). Both are
// taken from the processor time of all threads, which a busy machine does not stretch; the clock's time is told beside.
func BenchmarkPlan(b *testing.B) {
	const limit, most = 1.0, 2.0
	var rows []row
	each := map[int]float64{}
	for _, n := range []int{100, 1_000, 10_000} {
		file := manyVolumes(n / 3)
		var read, compile, run, worked times
		var memory float64
		units := 0
		for range 5 {
			o := planOnce(b, file)
			read, compile, run, worked = append(read, o.read), append(compile, o.compile), append(run, o.run), append(worked, o.worked)
			units, memory = o.units, o.mib
		}
		all := worked.median().Seconds()
		each[n] = all / float64(units)
		name := fmt.Sprintf("%d units, %.0f MiB at the end; by the clock: compile %v, run %v, read the file before %v", units, memory, compile, run, read)
		if n < 10_000 {
			rows = append(rows, row{name: name, ours: fmt.Sprintf("%.2f s", all)})
		} else {
			rows = append(rows, below(name, all, limit, "s"))
		}
	}
	rows = append(rows, below("a unit at 10,000 against a unit at 1,000", each[10_000]/each[1_000], most, "times"))
	show(b, "A plan compiled, and run with actions that do nothing; processor time", rows...)
}

// manyVolumes is a file with n volumes, which become three units each.
func manyVolumes(n int) []byte {
	var s strings.Builder
	s.WriteString("apiVersion: initd/v1\nname: bench\nkeys:\n  tls: {ca: ca.pem, cert: a.pem, key: a.key}\n" +
		"  servers: [{name: kms, address: \"192.0.2.21:5696\"}]\nmedia:\n  luks:\n")
	for i := range n {
		fmt.Fprintf(&s, "    - {name: v%d, device: id/virtio-v%d, key: kmip}\n", i, i)
	}
	s.WriteString("mounts:\n")
	for i := range n {
		fmt.Fprintf(&s, "  - {what: luks/v%d, where: /srv/v%d, type: ext4}\n", i, i)
	}
	return []byte(s.String())
}

// outcome is one run of a plan: what took how long, and the processor time of compiling and running.
type outcome struct {
	read, compile, run, worked time.Duration
	units                      int
	mib                        float64
}

// processor is the time that all threads of this process have worked.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func planOnce(b *testing.B, file []byte) (o outcome) {
	b.Helper()
	runtime.GC() // of the rounds before
	var a *appliance.Appliance
	var p *plan.Plan
	var err error
	o.read = took(func() { a, err = appliance.Parse([]appliance.Source{{Name: "bench.yaml", Data: file}}) })
	if err != nil {
		b.Fatal(err)
	}
	before := processor(b)
	o.compile = took(func() { p, err = plan.Compile(a, plan.Facts{}, step.Kinds()) })
	if err != nil {
		b.Fatal(err)
	}
	actions := map[string]engine.Action{}
	var facts []plan.Fact
	known := map[plan.Resource]bool{}
	for _, u := range p.Units {
		actions[u.Kind] = noop{}
		for _, n := range u.Needs {
			for _, r := range n.AnyOf {
				if c := r.Class(); (c == plan.ClassBlock || c == plan.ClassEndpoint) && !known[r] {
					known[r] = true
					facts = append(facts, plan.Fact{Resource: r, Present: true, Generation: 1})
				}
			}
		}
	}
	o.run = took(func() {
		e, err := engine.New(engine.Config{Plan: p, Actions: actions, Log: discard{}, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		if err := e.Post(facts...); err != nil {
			b.Fatal(err)
		}
		<-e.ReadyC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		o.mib = float64(m.HeapAlloc) / (1 << 20)
		cancel()
		<-done
	})
	o.worked, o.units = processor(b)-before, len(p.Units)
	return o
}
