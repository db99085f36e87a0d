package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"initd/v2v/convert"
	"initd/v2v/deploy"
	"initd/v2v/file"
	"initd/v2v/formats"
	"initd/v2v/image"
	"initd/v2v/job/task"
)

// kinds are what jobs of this program do.
func kinds() map[string]task.Kind {
	return map[string]task.Kind{"convert": convertTask, "deploy": deployTask}
}

// convertCall is one conversion, as a job carries it.
type convertCall struct {
	Source  string            `json:"source"`
	Format  string            `json:"format,omitempty"`
	Target  string            `json:"target"`
	Into    string            `json:"into"`
	Options []string          `json:"options,omitempty"`
	Verify  bool              `json:"verify,omitempty"`
	Rate    int64             `json:"rate,omitempty"`
	Opening image.OpenOptions `json:"opening,omitzero"`
	Alone   bool              `json:"alone,omitempty"`
	Shared  bool              `json:"shared,omitempty"`
}

func (c convertCall) request() convert.Request {
	return convert.Request{Source: c.Source, SourceFormat: c.Format, Target: c.Target, TargetFormat: c.Into, Options: c.Options, Verify: c.Verify, Rate: c.Rate,
		Opening: c.Opening, Files: file.OpenOptions{NoSiblings: c.Alone, Shared: c.Shared}, Open: openImage, OpenStream: openPipe}
}

// result is what a job that converted is remembered by.
type result struct {
	Target   string  `json:"target"`
	Format   string  `json:"format"`
	Size     int64   `json:"size"`
	Data     int64   `json:"data"`
	Written  int64   `json:"written"`
	Resumed  int64   `json:"resumed,omitempty"`
	Shared   bool    `json:"shared,omitempty"`
	Verified bool    `json:"verified"`
	Seconds  float64 `json:"seconds"`
}

// convertTask converts, going on where an earlier attempt ended if the format can. The unfinished files are locked, so that an attempt that
// still lives, here or on another client of the same file system, keeps this one away.
func convertTask(ctx context.Context, o task.Order, say task.Reporter) (json.RawMessage, error) {
	var c convertCall
	if err := json.Unmarshal(o.Args, &c); err != nil {
		return nil, &task.Failure{Text: "the job's arguments: " + err.Error(), Final: true}
	}
	if o.Clean {
		return nil, discard(c.Target)
	}
	req := c.request()
	if err := req.Check(); err != nil {
		return nil, &task.Failure{Text: err.Error(), Final: true}
	}
	into, err := formats.ByName(c.Into)
	if err != nil {
		return nil, &task.Failure{Text: err.Error(), Final: true}
	}
	req.Resume = into.Resume != nil && !isDevice(c.Target)
	rate := newRate(say.Progress)
	req.Report = func(e convert.Event) { rate.tell(e.Phase, e.Progress, e.Total) }
	done, err := convert.Run(ctx, req)
	if err != nil {
		if errors.Is(context.Cause(ctx), task.ErrCancelled) {
			err = errors.Join(err, discard(c.Target))
		}
		return nil, err
	}
	return json.Marshal(result{Target: c.Target, Format: done.Format, Size: done.Size, Data: done.Data, Written: done.Written, Resumed: done.Resumed, Shared: done.Shared,
		Verified: done.Verified, Seconds: done.Took.Seconds()})
}

// discard takes away what is unfinished of a target.
func discard(target string) error {
	if isDevice(target) {
		return nil // nothing can take back what was written
	}
	t, err := file.Create(target, file.CreateOptions{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // without its folder
	}
	if err != nil {
		return fmt.Errorf("take away what is unfinished: %w", err)
	}
	t.Abort()
	return nil
}

func deployTask(ctx context.Context, o task.Order, say task.Reporter) (json.RawMessage, error) {
	var d deployCall
	if err := json.Unmarshal(o.Args, &d); err != nil {
		return nil, &task.Failure{Text: "the job's arguments: " + err.Error(), Final: true}
	}
	if o.Clean {
		return nil, nil // what was written to a disk stays; its record says that it is unfinished
	}
	d.job = o.Job
	if o.Again {
		d.Fresh, d.since = false, o.Started
	}
	if o.Handed != nil {
		if err := json.Unmarshal(o.Handed, &d.handed); err != nil {
			return nil, &task.Failure{Text: "what the last attempt handed over: " + err.Error(), Final: true}
		}
	}
	d.hand = func(ctx context.Context, rec deploy.Record) error {
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return say.Hand(ctx, b)
	}
	rate := newRate(say.Progress)
	out, err := d.do(ctx, func(e deploy.Event) {
		if e.Note == "" || e.Phase == "wait" {
			rate.tell(e.Phase, e.Progress, e.Total)
		}
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// rate turns places into progress with a rate and the time that is left.
type rate struct {
	report func(task.Progress)
	phase  string
	began  time.Time
	from   int64
}

func newRate(report func(task.Progress)) *rate { return &rate{report: report} }

func (r *rate) tell(phase string, p convert.Progress, total int64) {
	if phase == "" {
		return
	}
	done := p.Data
	if total <= 0 {
		done, total = p.Offset, p.Size
	}
	if phase != r.phase {
		r.phase, r.began, r.from = phase, time.Now(), done
	}
	out := task.Progress{Phase: phase, Done: done, Total: total}
	if took := time.Since(r.began); took > time.Second && done > r.from {
		perSecond := float64(done-r.from) / took.Seconds()
		out.Rate = int64(perSecond)
		out.Left = time.Duration(float64(total-done) / perSecond * float64(time.Second)).Round(time.Second)
	}
	r.report(out)
}
