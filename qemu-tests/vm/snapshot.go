package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Save writes the machine's memory and devices to a file, and takes the power away. Restored machines go on from there: with
// the same disks, which must not have been used before (their content is not saved), the same wires and options.
// An absolute path without quotes.
func (m *VM) Save(path string) {
	m.t.Helper()
	m.QMP("stop", nil)
	if err := m.running().migrate("migrate", "exec:cat > '"+path+"'"); err != nil {
		m.t.Fatalf("%s: save: %v", m.name, err)
	}
	m.Kill()
}

// From lets the machine start as the one that Save wrote to this file, instead of booting.
func (m *VM) From(path string) *VM {
	m.spec.from = path
	return m
}

// restore loads what Save wrote, and lets it run.
func (r *run) restore(path string) error {
	if err := r.migrate("migrate-incoming", "exec:cat '"+path+"'"); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), qmpGuard)
	defer cancel()
	_, err := r.qmp.execute(ctx, "cont", nil)
	return err
}

// migrate runs a migration to its end (docs/devel/migration of QEMU).
func (r *run) migrate(command, uri string) error {
	ctx, cancel := context.WithTimeout(context.Background(), qmpGuard)
	defer cancel()
	_, err := r.qmp.execute(ctx, "migrate-set-capabilities", members{"capabilities": []members{{"capability": "events", "state": true}}})
	if err == nil {
		_, err = r.qmp.execute(ctx, "migrate-set-parameters", members{"max-bandwidth": int64(8) << 30})
	}
	if err == nil {
		_, err = r.qmp.execute(ctx, command, members{"uri": uri})
	}
	if err != nil {
		return err
	}
	status := ""
	_, _, err = r.qmp.events.wait(ctx, 0, func(e qmpEvent) bool {
		var data struct {
			Status string `json:"status"`
		}
		if e.Name == "MIGRATION" && json.Unmarshal(e.Data, &data) == nil {
			status = data.Status
		}
		return strings.Contains("completed failed", status) && status != ""
	})
	switch {
	case err != nil:
		return err
	case status != "completed":
		return errors.New("the migration failed: " + r.m.stderrText())
	}
	return nil
}
