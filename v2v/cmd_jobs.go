package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"initd/initd/cli"
	"initd/v2v/convert"
	"initd/v2v/deploy"
	"initd/v2v/job"
	"initd/v2v/sandbox"
)

func jobsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "jobs",
		Short: "Submit conversions and deploys to a queue, and look after them",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(jobsSubmitCommand(), jobsListCommand(), jobsShowCommand(), jobsFollowCommand(), jobsCancelCommand(), jobsRetryCommand(), jobsLimitCommand())
	return c
}

// withQueue connects, works, and lets go.
func withQueue(c *cobra.Command, s job.Server, work func(context.Context, *job.Queue) error) error {
	ctx, end := context.WithCancel(c.Context())
	defer end()
	if s.URL != "" {
		s.Log = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
	}
	q, err := job.Connect(ctx, s)
	if err != nil {
		return err
	}
	defer q.Close()
	return work(c.Context(), q)
}

// submission is what all kinds of jobs are submitted with.
type submission struct {
	server job.Server
	spec   job.Spec
	follow bool
	asJSON bool
}

func (s *submission) flags(c *cobra.Command) {
	serverFlags(c, &s.server)
	f := c.Flags()
	f.StringVar(&s.spec.ID, "id", "", "submit under this `ID`: the same again is the same job (default: a new one)")
	f.StringVar(&s.spec.Datastore, "datastore", "", "what the job loads, for limits: a `NAME` (default: the target's directory, or the portal)")
	f.BoolVar(&s.follow, "follow", false, "follow the job until it ends")
	f.BoolVar(&s.asJSON, "json", false, "print the job as JSON")
}

func (s *submission) submit(c *cobra.Command, kind string, args any, datastore string) error {
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	s.spec.Kind, s.spec.Args = kind, b
	if s.spec.Datastore == "" {
		s.spec.Datastore = datastore
	}
	return withQueue(c, s.server, func(ctx context.Context, q *job.Queue) error {
		j, added, err := q.Submit(ctx, s.spec)
		if err != nil {
			return err
		}
		switch {
		case s.follow:
			return followJob(ctx, q, j.ID, s.asJSON, c.OutOrStdout(), c.ErrOrStderr())
		case s.asJSON:
			return json.NewEncoder(c.OutOrStdout()).Encode(struct {
				job.Job
				Added bool `json:"added"`
			}{j, added})
		}
		fmt.Fprintln(c.OutOrStdout(), j.ID)
		if !added {
			fmt.Fprintf(c.ErrOrStderr(), "it is there already: %s\n", j.State)
		}
		return nil
	})
}

func jobsSubmitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "submit",
		Short: "Add a job",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(submitConvertCommand(), submitDeployCommand())
	return c
}

func submitConvertCommand() *cobra.Command {
	var s submission
	var o reading
	var call convertCall
	var rate string
	c := &cobra.Command{
		Use:   "convert [-f FMT] -O FMT [-o KEY=VALUE,...] SRC DST",
		Short: "Convert an image, as v2v convert does",
		Args:  cli.Exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			call.Source, call.Target = args[0], args[1]
			if err := errors.Join(o.check(), absolute(&call.Source, &call.Target)); err != nil {
				return err
			}
			if call.Into == "" {
				return cli.Usage(errors.New("say what it becomes: -O qcow2, for example"))
			}
			call.Format, call.Opening, call.Alone, call.Shared = o.format, o.opening, o.files.NoSiblings, o.files.Shared
			if err := sizeFlags(map[string]*int64{"rate": &call.Rate}, map[string]string{"rate": rate}); err != nil {
				return err
			}
			if err := call.request().Check(); err != nil {
				return cli.Usage(err)
			}
			return s.submit(c, "convert", call, filepath.Dir(call.Target))
		},
	}
	s.flags(c)
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&call.Into, "target-format", "O", "", "make this `FORMAT`")
	f.StringArrayVarP(&call.Options, "option", "o", nil, "`KEY=VALUE,...` of the target's format")
	f.BoolVar(&call.Verify, "verify", false, "read the target back and compare digests before it gets its name")
	f.StringVarP(&rate, "rate", "r", "", "read at most `SIZE` a second")
	return c
}

func submitDeployCommand() *cobra.Command {
	var s submission
	var o reading
	var d deployCall
	var sizes deploySizes
	c := &cobra.Command{
		Use:   deployUse,
		Short: "Write an image onto a machine's disk, as v2v deploy does",
		Args:  cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			d.Image = args[0]
			if err := errors.Join(d.complete(&o, sizes), absolute(&d.Image, &d.CHAPFile, &d.State)); err != nil {
				return err
			}
			store := filepath.Dir(d.Device)
			if d.ByPath != "" {
				if at, err := deploy.ParseByPath(d.ByPath); err == nil {
					store = fmt.Sprintf("%s:%d", at.Address, at.Port)
				}
			}
			return s.submit(c, "deploy", d, store)
		},
	}
	s.flags(c)
	d.flags(c, &o, &sizes)
	return c
}

func jobsListCommand() *cobra.Command {
	var s job.Server
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the jobs, oldest first", Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withQueue(c, s, func(ctx context.Context, q *job.Queue) error {
				list, err := q.List(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					if list == nil {
						list = []job.Job{}
					}
					return json.NewEncoder(c.OutOrStdout()).Encode(list)
				}
				t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tKIND\tSTATE\tPROGRESS\tWORKER\tSUBMITTED\tTARGET")
				for _, j := range list {
					worker := "-"
					if j.Lease != nil {
						worker = j.Lease.Worker
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.ID, j.Kind, j.State, progressText(j), worker, j.Submitted.Format(time.DateTime), targetOf(j))
				}
				return t.Flush()
			})
		},
	}
	serverFlags(c, &s)
	c.Flags().BoolVar(&asJSON, "json", false, "print the jobs as JSON")
	return c
}

// targetOf is what a job is about, for people.
func targetOf(j job.Job) string {
	var t struct{ Target, ByPath, Device string }
	_ = json.Unmarshal(j.Args, &t) // a kind of a later version has other words
	return sandbox.Clean(t.Target + t.ByPath + t.Device)
}

func progressText(j job.Job) string {
	if j.State != job.Running || j.Progress == nil {
		return "-"
	}
	p := *j.Progress
	s := p.Phase
	if p.Total > 0 {
		s += fmt.Sprintf(" %d %%", min(99, p.Done*100/p.Total))
	}
	if p.Rate > 0 {
		s += fmt.Sprintf(" %s/s", bytesText(p.Rate))
	}
	if p.Left > 0 {
		s += fmt.Sprintf(" %s left", durationText(p.Left))
	}
	return s
}

// oneJob makes a command about one job.
func oneJob(use, short string, do func(ctx context.Context, q *job.Queue, id string, asJSON bool, stdout, stderr io.Writer) error) *cobra.Command {
	var s job.Server
	var asJSON bool
	c := &cobra.Command{Use: use + " ID", Short: short, Args: cli.Exactly(1), RunE: func(c *cobra.Command, args []string) error {
		return withQueue(c, s, func(ctx context.Context, q *job.Queue) error {
			return do(ctx, q, args[0], asJSON, c.OutOrStdout(), c.ErrOrStderr())
		})
	}}
	serverFlags(c, &s)
	c.Flags().BoolVar(&asJSON, "json", false, "print the job as JSON")
	return c
}

func jobsShowCommand() *cobra.Command {
	return oneJob("show", "Show a job with its history", func(ctx context.Context, q *job.Queue, id string, asJSON bool, stdout, _ io.Writer) error {
		j, err := q.Get(ctx, id)
		if err != nil {
			return err
		}
		return showJob(j, asJSON, stdout)
	})
}

func showJob(j job.Job, asJSON bool, stdout io.Writer) error {
	if asJSON {
		return json.NewEncoder(stdout).Encode(j)
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, sandbox.Clean(value))
		}
	}
	line("id", j.ID)
	line("kind", j.Kind)
	line("state", string(j.State))
	line("target", targetOf(j))
	line("datastore", j.Datastore)
	line("submitted", j.Submitted.Format(time.RFC3339))
	if j.Lease != nil {
		line("worker", j.Lease.Worker)
		line("progress", progressText(j))
	}
	if !j.After.IsZero() {
		line("tried again", j.After.Format(time.RFC3339))
	}
	line("error", j.Error)
	line("code", j.Code)
	line("goes on at", goesOnText(j))
	line("result", resultText(j))
	line("arguments", string(j.Args))
	for _, a := range j.History {
		s := fmt.Sprintf("%s by %s", a.Started.Format(time.RFC3339), a.Worker)
		if a.Outcome != "" {
			s += fmt.Sprintf(": %s after %s", a.Outcome, durationText(a.Ended.Sub(a.Started)))
		}
		if a.Error != "" {
			s += ": " + a.Error
		}
		line("attempt", s)
	}
	return t.Flush()
}

// goesOnText is how far a deploy is that waits for its next attempt.
func goesOnText(j job.Job) string {
	var rec deploy.Record
	if j.State == job.Running || j.Kind != "deploy" || json.Unmarshal(j.Handed, &rec) != nil || rec.Mark == nil {
		return ""
	}
	return fmt.Sprintf("%s of %s", bytesText(rec.Mark.Offset), bytesText(rec.Image.Virtual))
}

// resultText is what came of a job, in words; --json has all of it.
func resultText(j job.Job) string {
	switch j.Kind {
	case "convert":
		var r result
		if json.Unmarshal(j.Result, &r) == nil {
			return summary(r.Target, convert.Outcome{Format: r.Format, Resumed: r.Resumed, Shared: r.Shared, Verified: r.Verified, Took: seconds(r.Seconds),
				Result: convert.Result{Size: r.Size, Data: r.Data}})
		}
	case "deploy":
		var r struct {
			deployed
			Seconds float64 `json:"seconds"`
		}
		if json.Unmarshal(j.Result, &r) == nil {
			r.Took = seconds(r.Seconds)
			return deploySummary(deploy.Outcome(r.deployed))
		}
	}
	return string(j.Result)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func jobsFollowCommand() *cobra.Command {
	c := oneJob("follow", "Follow a job until it ends", followJob)
	c.Long = `Follow a job: its progress on standard error, a line a change with --json on standard output. Exit status 0: it is done; 1: it failed or was
cancelled.`
	return c
}

func followJob(ctx context.Context, q *job.Queue, id string, asJSON bool, stdout, stderr io.Writer) error {
	enc, last := json.NewEncoder(stdout), ""
	terminal := isTerminal(stderr)
	for j, err := range q.Follow(ctx, id) {
		if err != nil {
			return err
		}
		if asJSON {
			if err := enc.Encode(j); err != nil {
				return err
			}
		} else {
			last = followLine(stderr, j, last, terminal)
		}
		switch j.State {
		case job.Failed:
			return fmt.Errorf("job %s failed: %s", id, j.Error)
		case job.Cancelled:
			return fmt.Errorf("job %s was cancelled", id)
		}
	}
	return nil
}

// followLine shows a change: over the line before on a terminal; elsewhere only states and whole tenths.
func followLine(w io.Writer, j job.Job, last string, terminal bool) string {
	text := string(j.State)
	if j.State == job.Running && j.Progress != nil {
		text = progressText(j)
	}
	if j.State == job.Queued && j.Error != "" {
		text += ", after: " + j.Error
	}
	key := text
	if !terminal && j.Progress != nil && j.Progress.Total > 0 && j.State == job.Running {
		key = fmt.Sprint(j.Progress.Phase, j.Progress.Done*10/j.Progress.Total)
	}
	switch {
	case key == last:
	case terminal && !j.State.Ended():
		fmt.Fprintf(w, "\r%s\x1b[K", strings.TrimSpace(text))
	case terminal:
		fmt.Fprintf(w, "\r%s\x1b[K\n", text)
	default:
		fmt.Fprintln(w, text)
	}
	return key
}

func jobsCancelCommand() *cobra.Command {
	return oneJob("cancel", "End a job; nothing unfinished is left of a conversion", func(ctx context.Context, q *job.Queue, id string, asJSON bool, stdout, stderr io.Writer) error {
		j, err := q.Cancel(ctx, id)
		if err != nil {
			return err
		}
		return changed(j, asJSON, stdout, stderr)
	})
}

func jobsRetryCommand() *cobra.Command {
	return oneJob("retry", "Put a job that failed or was cancelled into the queue again", func(ctx context.Context, q *job.Queue, id string, asJSON bool, stdout, stderr io.Writer) error {
		j, err := q.Retry(ctx, id)
		if err != nil {
			return err
		}
		return changed(j, asJSON, stdout, stderr)
	})
}

func changed(j job.Job, asJSON bool, stdout, stderr io.Writer) error {
	if asJSON {
		return json.NewEncoder(stdout).Encode(j)
	}
	s := string(j.State)
	if j.Cancel && !j.State.Ended() {
		s += ", being cancelled"
	}
	fmt.Fprintf(stderr, "job %s: %s\n", j.ID, s)
	return nil
}

func jobsLimitCommand() *cobra.Command {
	var s job.Server
	var n int
	c := &cobra.Command{Use: "limit DATASTORE --jobs N", Short: "Say how many jobs may run at the same time on a datastore", Args: cli.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("jobs") || n < 0 || n > 10_000 {
				return cli.Usage(errors.New("say --jobs: from 1 to 10000, or 0 for what the workers were told"))
			}
			return withQueue(c, s, func(ctx context.Context, q *job.Queue) error { return q.SetLimit(ctx, args[0], n) })
		}}
	serverFlags(c, &s)
	c.Flags().IntVar(&n, "jobs", 0, "how many; 0 is what the workers were told")
	return c
}
