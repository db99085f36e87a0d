package step

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"initd/boot/engine"
	"initd/hw/block/media"
	"initd/hw/luks"
)

// openVolumes is the child luks-open: it parses nothing and never sees a key.
func openVolumes(ctx context.Context, in *ChildInput, params []openParams) (any, error) {
	fail := func(i int, err error) {
		in.Tell(ChildProgress{Index: i, Done: true, Error: AsChildError(err)})
	}
	var volumes []luks.Volume
	var which []int
	for i, p := range params {
		v := luks.Volume{Name: p.Name, ReadOnly: p.ReadOnly, Discards: p.Discards, Keys: []*os.File{in.Files[p.Key]}}
		var err error
		if v.Data, err = os.Open(p.Device); err == nil && p.Header != "" {
			v.Header, err = os.Open(p.Header)
		}
		if err != nil {
			fail(i, fmt.Errorf("unlock %s: %w", p.Name, err))
			continue
		}
		volumes, which = append(volumes, v), append(which, i)
	}
	if len(volumes) == 0 {
		return nil, nil
	}
	_, err := luks.OpenBatch(ctx, volumes, luks.Batch{
		Derive: func(ctx context.Context, files []*os.File, p luks.DeriveParams, tell func(luks.Told)) (func() error, error) {
			wait, err := in.Sub(ctx, Call{Func: "luks-derive", Params: p, Files: files, Compute: true, Progress: func(m ChildProgress) {
				var t luks.Told
				if json.Unmarshal(m.Result, &t) == nil {
					tell(t)
				}
			}})
			if err != nil {
				return nil, err
			}
			return func() error { _, err := wait(); return err }, nil
		},
		Doing: func(i int, what string) {
			in.Tell(ChildProgress{Index: which[i], Progress: &engine.Progress{Text: what}})
		},
		Opened: func(i int, o luks.Outcome) {
			if o.Err != nil {
				fail(which[i], o.Err)
				return
			}
			raw, err := json.Marshal(opened{Slot: o.Params.Slot, Cipher: o.Params.Cipher, Secondary: o.Params.Secondary, Damage: o.Params.Damage})
			if err != nil {
				panic(err) // plain data
			}
			in.Tell(ChildProgress{Index: which[i], Done: true, Result: raw})
		},
	})
	return nil, err
}

// deriveKeys is the child luks-derive: from Confine on it can open nothing,
// and read and compute only.
func deriveKeys(ctx context.Context, in *ChildInput, p luks.DeriveParams) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	luks.PortableIfEmulated()
	if err := luks.Confine(); err != nil {
		return nil, err
	}
	luks.Derive(ctx, p, in.Files, luks.DeriveOptions{Keyring: luks.SessionKeyring{}, Foreign: signature}, func(t luks.Told) {
		raw, err := json.Marshal(t)
		if err != nil {
			panic(err) // plain data
		}
		in.Tell(ChildProgress{Result: raw})
	})
	return nil, nil
}

// openPlain is the child luks-plain, for ephemeral keys.
func openPlain(ctx context.Context, _ *ChildInput, p openParams) (any, error) {
	if err := protect(); err != nil {
		return nil, err
	}
	f, err := os.Open(p.Device)
	if err != nil {
		return nil, fmt.Errorf("unlock %s: %w", p.Name, err)
	}
	defer f.Close()
	return nil, luks.OpenPlain(ctx, luks.Plain{Name: p.Name, Data: f, Discards: p.Discards}, signature)
}

// signature names what is on a medium; "" for nothing known.
func signature(r io.ReaderAt) (string, error) {
	medium := media.Medium{ReaderAt: r, Size: sizeOf(r)}
	c, err := media.Probe(medium)
	switch {
	case err != nil:
		return "", err
	case c.Signature != nil:
		return c.Signature.Type, nil
	case len(c.Ambivalent) > 0:
		return c.Ambivalent[0], nil
	case c.Table != nil:
		return "a " + c.Table.Type + " partition table", nil
	}
	return media.Trace(medium)
}

// sizeOf is the size of a medium in bytes: the end that seeking finds.
func sizeOf(r io.ReaderAt) int64 {
	s, ok := r.(io.Seeker)
	if !ok {
		return 0
	}
	n, err := s.Seek(0, io.SeekEnd)
	if err != nil {
		return 0
	}
	return n
}
