package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"initd/boot/plan"
	"initd/boot/report"
)

// noop is an action that has nothing to do.
type noop struct{}

func (noop) Check(context.Context, *plan.Unit) (Checked, error) {
	return Checked{Answer: Absent}, nil
}
func (noop) Apply(context.Context, *plan.Unit, func(Progress)) error { return nil }
func (noop) Rollback(context.Context, *plan.Unit) error              { return nil }

type discard struct{ n int }

func (d *discard) Append(e *report.Event) error {
	d.n++
	return nil
}

// wide is a plan of n units: disks that show, volumes on them, mounts, and a
// service for every ten.
func wide(n int) (*plan.Plan, []plan.Fact) {
	p := &plan.Plan{Name: "bench", Budget: plan.Duration(time.Hour)}
	var facts []plan.Fact
	add := func(x plan.Unit) {
		plan.Defaults(&x)
		p.Units = append(p.Units, x)
	}
	for i := 0; len(p.Units) < n; i++ {
		disk := plan.Resource(fmt.Sprintf("block/uuid/%d", i))
		facts = append(facts, plan.Fact{Resource: disk, Present: true, Generation: 1, Attrs: map[string]string{"dev": fmt.Sprint("/dev/d", i)}})
		add(u(fmt.Sprintf("key/%d", i), needs("endpoint/kms:5696"), comesAfter("time")))
		add(u(fmt.Sprintf("luks/%d", i), needs(disk, plan.Resource(fmt.Sprintf("key/%d", i))), claims(disk)))
		add(u(fmt.Sprintf("mount/%d", i), needs(plan.Resource(fmt.Sprintf("luks/%d", i)))))
		if i%10 == 9 {
			var all []plan.Resource
			for j := i - 9; j <= i; j++ {
				all = append(all, plan.Resource(fmt.Sprintf("mount/%d", j)))
			}
			add(u(fmt.Sprintf("service/%d", i), needs(all...)))
		}
	}
	facts = append(facts, plan.Fact{Resource: "endpoint/kms:5696", Present: true, Generation: 1})
	addReady(p)
	plan.Defaults(&p.Units[len(p.Units)-1])
	return p, facts
}

// BenchmarkRun runs a whole plan with actions that do nothing; ns/unit should
// stay about the same from 100 to 10,000 units.
func BenchmarkRun(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, facts := wide(n)
			for b.Loop() {
				log := &discard{}
				e, err := New(Config{Plan: p, Actions: map[string]Action{"fake": noop{}}, Log: log, Seed: 1})
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				if err := e.Post(facts...); err != nil {
					b.Fatal(err)
				}
				<-e.ReadyC()
				cancel()
				<-done
				b.ReportMetric(float64(log.n)/float64(n), "events/unit")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/unit")
		})
	}
}
