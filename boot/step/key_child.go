package step

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"initd/boot/appliance"
	"initd/boot/engine"
	"initd/hw/firmware"
	"initd/hw/kmip"
	"initd/hw/secret"
	"initd/hw/sysfs"
)

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 1 << 20

// fetchKeys is the child kmip: each key leaves it as a sealed memfd with the
// index of its request; what is heard of the servers has the index -1.
func fetchKeys(ctx context.Context, in *ChildInput, p kmipParams) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	p.Config.Servers = p.Paths.located(p.Config.Servers)
	var failed error
	var why kmipReasons
	kmip.FetchEach(ctx, p.Config, p.Requests, func(e kmip.Event) {
		raw, err := json.Marshal(e)
		if err != nil {
			return
		}
		in.Tell(ChildProgress{Index: -1, Result: raw, Progress: why.progress(e)})
	}, func(i int, r kmip.Result) {
		if err := tellKMIP(in, i, p.Requests[i], r); err != nil {
			failed = errors.Join(failed, err)
		}
	})
	return nil, failed
}

// tellKMIP hands one result over as soon as it is here: a key that is still
// awaited holds no other one up.
func tellKMIP(in *ChildInput, i int, asked kmip.Request, r kmip.Result) error {
	m := ChildProgress{Index: i, Done: true}
	if r.Err != nil {
		m.Error = kmipError(asked, r.Err)
		in.Tell(m)
		return nil
	}
	defer r.Keys[0].Secret.Destroy()
	f, err := secret.Seal("initd-key", r.Keys[0].Secret.Bytes())
	if err != nil {
		return fmt.Errorf("hand key over: %w", err)
	}
	defer f.Close()
	m.Files = []*os.File{f}
	m.Result, _ = json.Marshal(kmipFound{Server: r.Server, Address: r.Address})
	in.Tell(m)
	return nil
}

// kmipReasons is why no server has helped so far: it stays in sight while they
// are dialled anew, and asked again: the time may be over meanwhile.
type kmipReasons string

// progress says what a fetch waits for, in the words of a console line.
func (r *kmipReasons) progress(e kmip.Event) *engine.Progress {
	switch e.Kind {
	case kmip.Waiting:
		*r = kmipReasons(strings.Join(e.Reasons, "; "))
		return &engine.Progress{Waiting: string(*r), Server: e.Server}
	case kmip.Failed:
		*r = cmp.Or(*r, kmipReasons(e.String()))
		return &engine.Progress{Waiting: e.String(), Server: e.Server}
	case kmip.Dialling:
		return &engine.Progress{Waiting: string(*r), Text: e.String(), Server: e.Server}
	case kmip.Connected:
		waiting := fmt.Sprintf("%s (%s): no answer yet", e.Server, e.Address)
		if *r != "" {
			waiting += "; before: " + string(*r)
		}
		return &engine.Progress{Waiting: waiting, Text: e.String(), Server: e.Server}
	case kmip.Answered:
		*r = ""
	}
	return nil
}

// kmipError: the unit says that it is about getting a key, so the message begins with who refuses it.
func kmipError(asked kmip.Request, e *kmip.Error) *ChildError {
	c := &ChildError{
		CodeText: string(e.Code), Message: e.Brief(), ObjectText: asked.Selector.String(),
		ServerText: e.Server, HintText: e.Hint, Final: !e.Retryable, ClockBound: e.Clock,
	}
	for _, o := range e.Others {
		c.HintText = cmp.Or(c.HintText, o.Hint)
	}
	return c
}

// readKeyFiles is the child keyfile: every file is read at once, so that one
// on a disk that hangs holds no other back.
func readKeyFiles(_ context.Context, in *ChildInput, p keyFileParams) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for i, name := range p.Names {
		all.Go(func() {
			m := ChildProgress{Index: i, Done: true}
			f, err := sealNamed(p.Paths, name)
			if err != nil {
				m.Error = AsChildError(err)
			} else {
				m.Files = []*os.File{f}
				defer f.Close()
			}
			in.Tell(m)
		})
	}
	all.Wait()
	return nil, nil
}

// sealNamed reads a file, or a secret of the firmware.
func sealNamed(paths Paths, name string) (*os.File, error) {
	if of, ok := strings.CutPrefix(name, appliance.FirmwareSecret); ok {
		return sealFirmwareSecret(of)
	}
	return sealKeyFile(paths.resolve(name))
}

// sealFirmwareSecret reads iBFT/INDEX, or iBFT/INDEX/reverse.
func sealFirmwareSecret(name string) (*os.File, error) {
	words := strings.Split(name, "/")
	index, err := -1, errors.New("it names no target")
	if len(words) > 1 {
		index, err = strconv.Atoi(words[1])
	}
	if err != nil {
		return nil, fmt.Errorf("read secret of %s: %w", name, err)
	}
	sys, err := sysfs.Open("/")
	if err != nil {
		return nil, fmt.Errorf("read secret of %s: %w", name, err)
	}
	defer sys.Close()
	own, reverse, err := firmware.CHAPSecrets(sys, index)
	if err != nil {
		return nil, err
	}
	defer own.Destroy()
	defer reverse.Destroy()
	b := own
	if len(words) > 2 {
		b = reverse
	}
	if b.Len() == 0 {
		return nil, fmt.Errorf("read secret of %s: the firmware's table has none", name)
	}
	return secret.Seal("initd-key", b.Bytes())
}

// sealKeyFile reads a key into a sealed memfd.
func sealKeyFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, &ChildError{CodeText: "KEY-FILE-MODE", Message: fmt.Sprintf("read key %s: others may read it (mode %04o)", path, st.Mode().Perm()), HintText: "chmod 0400 " + path, ObjectText: path, Final: true}
	}
	limit := maxKeyFile
	if err == nil && st.Mode().IsRegular() && st.Size() > 0 { // locked memory is touched page by page
		limit = int(min(st.Size(), maxKeyFile))
	}
	b, err := secret.Read(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	defer b.Destroy()
	sealed, err := secret.Seal("initd-key", b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("hand key over: %w", err)
	}
	return sealed, nil
}

// protect keeps this process's memory out of swap and core dumps. A machine
// that cannot lock memory (an unprivileged caller) still must not dump.
func protect() error {
	if err := secret.ProtectProcess(); err != nil && !errors.Is(err, secret.ErrNotLocked) {
		return fmt.Errorf("protect memory: %w", err)
	}
	return nil
}
