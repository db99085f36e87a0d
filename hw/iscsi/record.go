package iscsi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// Record is what the kernel does not remember of a session of ours: who else takes it over needs it.
type Record struct {
	Version   int    `json:"version"` // 1
	Session   uint32 `json:"session"`
	Host      uint32 `json:"host"`
	ISID      string `json:"isid"`
	Config    Config `json:"config"`
	Time2Wait uint32 `json:"time2Wait"` // seconds to leave a target alone after a lost connection
	// Moved is where the target said that it is served for good (status 0102): it is looked for there first, and at its portal then.
	Moved *Portal `json:"moved,omitempty"`
	// Key names the CHAP secrets in the orchestrator's store, or File the file that holds them; both empty: none are used.
	Key  string `json:"key,omitempty"`
	File string `json:"file,omitempty"`
	// Unit is whom the session belongs to; empty: somebody's by hand.
	Unit string `json:"unit,omitempty"`
	// Given: the session is another program's by now (Kernel.Release), for good; its unit still counts on it.
	Given bool `json:"given,omitempty"`
}

const recordVersion = 1

// place is where a lost connection is made anew first.
func (r Record) place() Portal {
	if r.Moved != nil {
		return *r.Moved
	}
	return r.Config.Portal
}

// maxRecord bounds a record, bytes.
const maxRecord = 256 << 10

// Records keeps a record a session in a directory.
type Records struct{ dir string }

// RecordsAt are the records below /run/initd, or another state directory.
func RecordsAt(run string) Records { return Records{dir: filepath.Join(run, "iscsi")} }

// File is where the record of a session lies.
func (r Records) File(isid string) string { return filepath.Join(r.dir, isid+".json") }

// Write keeps a record, at once and as a whole.
func (r Records) Write(rec Record) error {
	rec.Version = recordVersion
	b, err := json.MarshalIndent(rec, "", " ")
	if err == nil {
		err = os.MkdirAll(r.dir, 0o755)
	}
	if err == nil {
		err = renameio.WriteFile(r.File(rec.ISID), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep iSCSI session %d: %w", rec.Session, err)
	}
	return nil
}

// update keeps a record anew, unless the session has been forgotten meanwhile.
func (r Records) update(rec Record) error {
	if _, err := r.Read(rec.ISID); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return r.Write(rec)
}

// Remove forgets a session.
func (r Records) Remove(isid string) error {
	if err := os.Remove(r.File(isid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget iSCSI session %s: %w", isid, err)
	}
	return nil
}

// Read reads the record of one session; fs.ErrNotExist without one.
func (r Records) Read(isid string) (Record, error) {
	var rec Record
	b, err := os.ReadFile(r.File(isid))
	if err != nil {
		return rec, err
	}
	if len(b) > maxRecord {
		return rec, fmt.Errorf("%s: it is no record of a session", r.File(isid))
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("%s: %w", r.File(isid), err)
	}
	if rec.Version != recordVersion || rec.ISID != isid {
		return rec, fmt.Errorf("%s: a record of version %d for %q", r.File(isid), rec.Version, rec.ISID)
	}
	return rec, nil
}

// GivenTo is the record of a session that was given away; false if it is another program's own.
func (r Records) GivenTo(s Session) (Record, bool) {
	if s.Ours() {
		return Record{}, false
	}
	list, _ := r.List() // one that cannot be read speaks for no session
	i := slices.IndexFunc(list, func(rec Record) bool {
		return rec.Given && rec.Session == s.ID && rec.Config.Target == s.Target && rec.Config.Portal.Address() == s.Portal
	})
	if i < 0 {
		return Record{}, false
	}
	return list[i], true
}

// GivenBy is the record of a unit's session that was given away.
func (r Records) GivenBy(unit string) (Record, bool) {
	list, _ := r.List()
	i := slices.IndexFunc(list, func(rec Record) bool { return rec.Given && rec.Unit == unit })
	if i < 0 {
		return Record{}, false
	}
	return list[i], true
}

// List reads all records; those that cannot be read are errors, beside the others.
func (r Records) List() ([]Record, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list iSCSI sessions: %w", err)
	}
	var list []Record
	var bad error
	for _, e := range entries {
		isid, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(isid, ".") {
			continue
		}
		rec, err := r.Read(isid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		list = append(list, rec)
	}
	return list, bad
}
