// Opener opens the volumes of a benchmark's machine, in turn by initd's children, as the orchestrator runs them, and by
// cryptsetup, and prints how long each took from the start of the first process: "ours took N ns", "theirs took N ns".
//
// It owns the mappings that it makes, and takes them down between rounds. It never judges what it measures; it fails when a
// volume does not open, or when the kernel ran out of memory.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"initd/boot/step"
	"initd/hw/dm"
	"initd/hw/secret"
	"initd/initd/child"
)

type opener struct {
	prefix, keys, exe    string
	count, rounds, width int
	hash, steps          bool
}

// volume is one for luks-open, as boot/step marshals it.
type volume struct {
	Name   string `json:"name"`
	Device string `json:"device"`
	Key    int    `json:"key"`
}

func main() {
	var o opener
	flag.StringVar(&o.prefix, "prefix", "", "devices are this and a number from 1 on")
	flag.StringVar(&o.exe, "exe", "/usr/bin/initd", "the program whose children open volumes")
	flag.StringVar(&o.keys, "keys", "", "folder with a key file for each number")
	flag.IntVar(&o.count, "count", 1, "how many volumes there are")
	flag.IntVar(&o.rounds, "rounds", 1, "how often each side has its turn")
	flag.IntVar(&o.width, "width", 1, "how many processes of cryptsetup run at a time")
	flag.BoolVar(&o.hash, "hash", false, "cryptsetup computes the hashes, and opens nothing")
	flag.BoolVar(&o.steps, "steps", false, "print when initd began what for which volume")
	flag.Parse()
	if err := o.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "opener:", err)
		os.Exit(1)
	}
}

func (o opener) run(ctx context.Context) error {
	for round := range o.rounds + 1 {
		for _, side := range []struct {
			name string
			open func(context.Context) error
		}{{"ours", o.ours}, {"theirs", o.theirs}} {
			start := time.Now()
			if err := side.open(ctx); err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			if round > 0 { // the first one warms caches, and loads modules
				fmt.Printf("%s took %d ns\n", side.name, time.Since(start).Nanoseconds())
			}
			if side.name == "theirs" && o.hash {
				continue
			}
			for i := range o.count {
				if err := dm.Remove(ctx, o.name(i)); err != nil {
					return err
				}
			}
		}
	}
	return noneKilled()
}

func (o opener) name(i int) string    { return "bench" + strconv.Itoa(i+1) }
func (o opener) device(i int) string  { return o.prefix + strconv.Itoa(i+1) }
func (o opener) keyFile(i int) string { return filepath.Join(o.keys, strconv.Itoa(i+1)) }

// ours seals the keys, as the child that fetched them would have, and runs luks-open for all volumes.
func (o opener) ours(ctx context.Context) error {
	var volumes []volume
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range o.count {
		key, err := os.ReadFile(o.keyFile(i))
		if err != nil {
			return err
		}
		sealed, err := secret.Seal("key", key)
		if err != nil {
			return err
		}
		files = append(files, sealed)
		volumes = append(volumes, volume{Name: o.name(i), Device: o.device(i), Key: i})
	}
	opened := 0
	var failed error
	start := time.Now()
	runner := &child.Runner{Exe: o.exe}
	_, err := runner.Run(ctx, step.Call{Func: "luks-open", Unit: "bench", Params: volumes, Files: files, Progress: func(p step.ChildProgress) {
		if o.steps {
			what := "open"
			if p.Progress != nil {
				what = p.Progress.Text
			}
			fmt.Printf("%4d ms  %2d  %s\n", time.Since(start).Milliseconds(), p.Index+1, what)
		}
		switch {
		case !p.Done:
		case p.Error != nil:
			failed = errors.Join(failed, p.Error)
		case json.Valid(p.Result):
			opened++
		}
	}})
	if err == nil && failed == nil && opened != o.count {
		err = fmt.Errorf("%d of %d volumes are open", opened, o.count)
	}
	return errors.Join(err, failed)
}

func (o opener) theirs(ctx context.Context) error {
	errs := make([]error, o.count)
	next := make(chan int)
	var width sync.WaitGroup
	for range o.width {
		width.Go(func() {
			for i := range next {
				errs[i] = o.cryptsetup(ctx, i)
			}
		})
	}
	for i := range o.count {
		next <- i
	}
	close(next)
	width.Wait()
	return errors.Join(errs...)
}

func (o opener) cryptsetup(ctx context.Context, i int) error {
	args := []string{"open", "--type", "luks", "--batch-mode", "--key-file", o.keyFile(i)}
	if o.hash {
		args = append(args, "--test-passphrase", o.device(i))
	} else {
		args = append(args, o.device(i), o.name(i))
	}
	out, err := exec.CommandContext(ctx, "cryptsetup", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cryptsetup %s: %w: %s", o.device(i), err, bytes.TrimSpace(out))
	}
	return nil
}

// noneKilled fails if the kernel has killed a process for want of memory since the boot.
func noneKilled() error {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && n != "0" {
			return fmt.Errorf("the kernel killed %s processes for want of memory", n)
		}
	}
	return nil
}
