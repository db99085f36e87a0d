package step

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"initd/boot/appliance"
	"initd/boot/plan"
)

// Names on the state disk.
const (
	StateAppliance = "appliance.yaml"
	StateLayers    = "appliance.d"
	StateLastGood  = "last-good-plan.json"
)

// StateFiles is what the state disk holds for a boot.
type StateFiles struct {
	// Sources is the appliance file on the state disk, if it has one, and then
	// its layers.
	Sources []appliance.Source `json:"sources,omitempty"`
	Own     bool               `json:"own,omitempty"` // the first source is a whole file
	// LastGood is the last plan that reached ready, and when it was kept.
	LastGood *plan.Plan `json:"lastGood,omitempty"`
	Kept     time.Time  `json:"kept,omitzero"`
	// NotBefore is the youngest certificate's start: the clock cannot be right
	// below it.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Problems are files that could not be read.
	Problems []string `json:"problems,omitempty"`
}

// readParams is what the child state-read is given.
type readParams struct {
	Dir  string `json:"dir"`
	Tidy bool   `json:"tidy,omitempty"`
}

// ReadState reads the state disk mounted at dir, in a child: a dying disk
// holds nobody else up. The first reader of a boot, before whom nobody can be
// writing, has what writers of earlier boots left half done removed.
func ReadState(ctx context.Context, c Children, dir string, first bool) (StateFiles, error) {
	var s StateFiles
	var got []byte
	_, err := c.Run(ctx, Call{Func: "state-read", Unit: "state disk", Params: readParams{Dir: dir, Tidy: first}, Objects: []string{dir}, Progress: func(p ChildProgress) {
		if len(p.Files) == 1 {
			defer p.Files[0].Close()
			got, _ = io.ReadAll(io.NewSectionReader(p.Files[0], 0, 64<<20))
		}
	}})
	if err != nil {
		return s, fmt.Errorf("read the state disk: %w", err)
	}
	if err := json.Unmarshal(got, &s); err != nil {
		return s, fmt.Errorf("read the state disk: %w", err)
	}
	return s, nil
}

// keepParams is what the child state-write is given.
type keepParams struct {
	Path string          `json:"path"`
	Data json.RawMessage `json:"data"`
}

// KeepPlan writes p as the last good plan, atomically, in a child.
func KeepPlan(ctx context.Context, c Children, dir string, p *plan.Plan) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep the plan: %w", err)
	}
	_, err = c.Run(ctx, Call{Func: "state-write", Unit: "state disk", Objects: []string{dir}, Params: keepParams{Path: filepath.Join(dir, StateLastGood), Data: b}})
	if err != nil {
		return fmt.Errorf("keep the plan: %w", err)
	}
	return nil
}

// stateChildren are the child functions of this file.
func stateChildren() map[string]ChildFunc {
	return map[string]ChildFunc{"state-read": Takes(readState), "state-write": Takes(writeState)}
}

func writeState(_ context.Context, _ *ChildInput, p keepParams) (any, error) {
	// Only one writes at a time: the call holds the disk.
	TidyTemporary(filepath.Dir(p.Path), func(name string) bool { return name == StateLastGood })
	if err := renameio.WriteFile(p.Path, p.Data, 0o600, renameio.WithTempDir(filepath.Dir(p.Path))); err != nil {
		return nil, fmt.Errorf("write %s: %w", p.Path, err)
	}
	return nil, nil
}

// maxStateFile bounds each file that is read, in bytes.
const maxStateFile = 16 << 20

func readState(_ context.Context, in *ChildInput, p readParams) (any, error) {
	if p.Tidy {
		TidyTemporary(p.Dir, func(name string) bool {
			return name == StateLastGood || strings.HasPrefix(name, bundlePrefix) && strings.HasSuffix(name, ".tar.gz")
		})
	}
	b, err := json.Marshal(collectState(p.Dir))
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hand the files over: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return nil, fmt.Errorf("hand the files over: %w", err)
	}
	in.Tell(ChildProgress{Done: true, Files: []*os.File{f}})
	return nil, nil
}

// collectState reads what a boot needs below dir; what cannot be read is a
// problem in the result and no end.
func collectState(dir string) StateFiles {
	var s StateFiles
	read := func(name string) []byte {
		b, err := readStateFile(filepath.Join(dir, name), maxStateFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
			return nil
		}
		return b
	}
	if b := read(StateAppliance); b != nil {
		s.Own = true
		s.Sources = append(s.Sources, appliance.Source{Name: filepath.Join(dir, StateAppliance), Data: b})
	}
	layers, _ := filepath.Glob(filepath.Join(dir, StateLayers, "*.yaml"))
	for _, l := range layers { // Glob sorts
		rel, err := filepath.Rel(dir, l)
		if err != nil {
			continue
		}
		if b := read(rel); b != nil {
			s.Sources = append(s.Sources, appliance.Source{Name: l, Data: b})
		}
	}
	if b := read(StateLastGood); b != nil {
		var p plan.Plan
		if err := json.Unmarshal(b, &p); err != nil || p.Schema != plan.Schema {
			s.Problems = append(s.Problems, "the last good plan cannot be read: it is damaged, or of another version")
		} else {
			s.LastGood = &p
			if st, err := os.Stat(filepath.Join(dir, StateLastGood)); err == nil {
				s.Kept = st.ModTime()
			}
		}
	}
	s.NotBefore = NotBefore(dir)
	return s
}

// readStateFile reads a file of at most a number of bytes, and nothing that is no file.
func readStateFile(path string, most int64) ([]byte, error) {
	// Not blocking: what lies there may be a pipe, at which nobody writes.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d MiB", path, most>>20)
	}
	return b, err
}

// NotBefore is the latest start of validity of the certificates in *.pem
// files below dir; zero without any.
func NotBefore(dir string) time.Time {
	var latest time.Time
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".pem") {
			return nil
		}
		b, err := readStateFile(name, 1<<20)
		if err != nil {
			return nil
		}
		for {
			var block *pem.Block
			if block, b = pem.Decode(b); block == nil {
				return nil
			}
			if block.Type != "CERTIFICATE" {
				continue
			}
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.NotBefore.After(latest) {
				latest = c.NotBefore
			}
		}
	})
	return latest
}
