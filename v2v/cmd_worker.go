package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"initd/initd/cli"
	"initd/v2v/job"
)

// serverFlags say which queue.
func serverFlags(c *cobra.Command, s *job.Server) {
	f := c.Flags()
	f.StringVar(&s.URL, "nats", "", "`URL` of a NATS server with JetStream, several with commas (default: the queue of this machine)")
	f.StringVar(&s.Dir, "dir", filepath.Join(stateDir, "queue"), "where the queue of this machine lives")
	f.StringVar(&s.Credentials, "creds", "", "NATS credentials `FILE`")
	f.StringVar(&s.Nkey, "nkey", "", "`FILE` with an nkey seed")
	f.StringVar(&s.User, "user", "", "user `NAME`, with --password-file")
	f.StringVar(&s.PasswordFile, "password-file", "", "`FILE` with the user's password")
	f.StringVar(&s.TokenFile, "token-file", "", "`FILE` with a token")
	f.StringVar(&s.CA, "tls-ca", "", "`FILE` of authorities that are believed")
	f.StringVar(&s.Certificate, "tls-cert", "", "`FILE` of this client's certificate")
	f.StringVar(&s.Key, "tls-key", "", "`FILE` of its key")
	f.IntVar(&s.Replicas, "replicas", 0, "how many servers hold each job (default: 3 in a cluster, else 1)")
}

func workerCommand() *cobra.Command {
	var s job.Server
	var w job.Worker
	c := &cobra.Command{
		Use:   "worker [--nats URL]",
		Short: "Run the jobs of a queue",
		Long: `Run jobs until a signal comes; those that run then are given back, and go on elsewhere or later.

Without --nats the queue is that of this machine: the first worker serves it on loopback, to those who may read its key below --dir,
and the next one takes over when it ends. With --nats any number of machines work on one queue.

A job runs on one worker at a time. Its lease lasts for --lease without a word; two thirds into that the kernel ends what the
worker had running, so that the next worker is alone at the target. All workers of a queue have to agree on --lease.`,
		Example: `  v2v worker --slots 2
  v2v worker --nats tls://n1.example:4222,tls://n2.example:4222 --creds /etc/v2v/worker.creds`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if w.Slots < 1 || w.Slots > 1000 || w.Lease < time.Second || w.Limit < 1 {
				return cli.Usage(errors.New("--slots from 1 to 1000, --lease of a second or more, --limit of 1 or more"))
			}
			stderr := c.ErrOrStderr()
			s.Log = func(line string) { fmt.Fprintln(stderr, line) }
			w.Log = s.Log
			if w.Name == "" {
				host, err := os.Hostname()
				if err != nil {
					return err
				}
				w.Name = fmt.Sprintf("%s-%d-%d", host, os.Getpid(), time.Now().Unix())
			}
			// The queue is served a little longer than this worker works: its jobs have to be given back.
			lasting, end := context.WithCancel(context.WithoutCancel(c.Context()))
			defer end()
			q, err := job.Connect(lasting, s)
			if err != nil {
				return err
			}
			defer q.Close()
			w.Queue = q
			fmt.Fprintf(stderr, "worker %s: %d at a time\n", w.Name, w.Slots)
			if err := w.Run(c.Context()); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	serverFlags(c, &s)
	f := c.Flags()
	f.IntVar(&w.Slots, "slots", 1, "how many jobs run at the same time here")
	f.StringVar(&w.Name, "name", "", "a `NAME` that no other worker has (default: host, process and time)")
	f.DurationVar(&w.Lease, "lease", 15*time.Second, "how long a job stays with a worker that is silent")
	f.IntVar(&w.Limit, "limit", 4, "how many jobs run at the same time on one datastore, over all workers")
	f.DurationVar(&w.Keep, "keep", 30*24*time.Hour, "how long jobs that ended are kept")
	return c
}

func isDevice(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK
}

// absolute makes paths mean the same wherever a worker runs.
func absolute(paths ...*string) error {
	for _, p := range paths {
		if *p == "-" {
			return cli.Usage(errors.New("a job has no standard input and output; name files"))
		}
		if *p == "" || strings.HasPrefix(*p, "/") {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}
