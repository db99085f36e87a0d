package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"initd/boot/report"
	"initd/boot/step"
	"initd/initd/pid1/rcu"
	"initd/initd/spare"
)

// usual is where init starts this program from.
const usual = "/usr/bin/initd"

// keepProgram leaves a copy of this program where init falls back to, once it
// has proved good: the boot has settled or is ready. From then on a file that
// is deleted, or replaced by one that does not run, harms nothing. Where the
// machine is to be handed over the copy is what goes on there, and it is made
// as soon as the root is up, beside what else there is to do. The result goes
// to made, which has room for it.
func (o *orchestrator) keepProgram(ctx context.Context, made chan<- error) {
	select {
	case <-o.engine.Load().SettledC():
	case <-o.engine.Load().ReadyC():
	case <-o.root.up:
	case <-ctx.Done():
		made <- ctx.Err()
		return
	}
	err := o.keepProgramNow(ctx)
	if err != nil && ctx.Err() == nil {
		o.note(err.Error())
	}
	made <- err
}

func (o *orchestrator) keepProgramNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := o.children.Run(ctx, step.Call{Func: "keep-program", Unit: "initd", Params: spare.Path, Objects: []string{spare.Path}})
	return err
}

// watchProgram says when the file of this program goes while it runs: the next
// orchestrator is what lies there then, or the copy.
func (o *orchestrator) watchProgram(ctx context.Context) {
	if os.Args[0] == spare.Path {
		return
	}
	err := spare.AwaitGone(ctx, "/proc/self/exe")
	switch {
	case err == nil:
		o.note(fmt.Sprintf("%s was deleted or replaced while it runs: init starts what is there next, or else the copy at %s", os.Args[0], spare.Path))
	case ctx.Err() == nil:
		o.note(err.Error())
	}
}

// keepProgramChild is the child keep-program: its own image is the
// orchestrator's, whatever has become of the file since.
// Volumes are opened beside it, and go first.
func keepProgramChild(_ context.Context, _ *step.ChildInput, to string) (any, error) {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	return nil, spare.Keep("/proc/self/exe", to)
}

// noteSpare says that this is not the program that it should be.
func (o *orchestrator) noteSpare() {
	if os.Args[0] == spare.Path {
		o.note(fmt.Sprintf("initd runs from %s, the copy of the last good one (%s), because %s does not start or does not stay up%scp %[1]s %[3]s",
			spare.Path, version, usual, report.NoticeNext))
	}
}

// calmKernel ends what init began for the sake of a quick boot: that the
// kernel hurries its grace periods.
func (o *orchestrator) calmKernel(ctx context.Context) {
	select {
	case <-o.engine.Load().SettledC():
	case <-ctx.Done():
		return
	}
	rcu.Expedite("/", false)
}
