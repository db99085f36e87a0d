package lio

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"initd/hw/iscsi/iscsitest"
	"initd/qemu-tests/peer/configfs"
)

// Machine is a running target machine.
type Machine struct {
	cfg  Config
	tree configfs.Tree

	ctx   context.Context   // of its servers
	mu    sync.Mutex        // one change at a time
	disks map[string]string // backstore by TARGET/NUMBER; guarded by mu
	// scripted are the servers by where they listen; guarded by mu
	scripted map[string]*iscsitest.Server
	relays   map[string]*relay // the same; not changed after Start
}

// Modules of a target machine.
func Modules() []string {
	return []string{"target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod", "crc32c_generic", "sha256_generic", "sha1_generic", "md5", "sha3_generic"}
}

// Start sets the targets up; they listen when it returns.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	tree, err := configfs.Mount("target")
	if err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, tree: tree, ctx: ctx, disks: map[string]string{}, scripted: map[string]*iscsitest.Server{}, relays: map[string]*relay{}}
	for _, t := range cfg.Targets {
		if t.Absent {
			continue
		}
		if err := m.target(t); err != nil {
			return nil, fmt.Errorf("lio: %s: %w", t.IQN, err)
		}
	}
	if a := cfg.Discovery; a != nil {
		if err := tree.SetAll("iscsi/discovery_auth/userid", a.User, "iscsi/discovery_auth/password", a.Password,
			"iscsi/discovery_auth/enforce_discovery_auth", "1"); err != nil {
			return nil, err
		}
	}
	for _, s := range cfg.Scripted {
		srv, err := iscsitest.Start(s.Listen, s.Script)
		if err != nil {
			return nil, err
		}
		m.scripted[s.Listen] = srv
		context.AfterFunc(ctx, srv.Close)
	}
	for _, l := range cfg.Late {
		if err := l.listen(ctx); err != nil {
			return nil, err
		}
	}
	for _, r := range cfg.Relays {
		if m.relays[r.Listen], err = r.start(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func group(iqn string, tag int) string { return fmt.Sprintf("iscsi/%s/tpgt_%d", iqn, max(tag, 1)) }

func (t Target) tpg() string { return group(t.IQN, t.Group) }

func (m *Machine) target(t Target) error {
	tpg := t.tpg()
	if err := m.tree.Make(tpg); err != nil { // the first one loads the fabric
		return err
	}
	for _, l := range t.LUNs {
		if err := m.lun(t, l); err != nil {
			return err
		}
	}
	if err := m.access(t); err != nil {
		return err
	}
	for k, v := range t.Attributes {
		if err := m.tree.Set(tpg+"/attrib/"+k, v); err != nil {
			return err
		}
	}
	for k, v := range t.Parameters {
		if err := m.tree.Set(tpg+"/param/"+k, v); err != nil {
			return err
		}
	}
	for _, p := range t.Portals {
		if err := m.tree.Make(tpg + "/np/" + p); err != nil {
			return err
		}
	}
	if t.Off {
		return nil
	}
	return m.tree.Set(tpg+"/enable", "1")
}

// lun makes a LUN of a target.
func (m *Machine) lun(t Target, l LUN) error {
	store, err := m.disk(t, l)
	if err != nil {
		return err
	}
	lun := fmt.Sprintf("%s/lun/lun_%d", t.tpg(), l.Number)
	if err := m.tree.Make(lun); err != nil {
		return err
	}
	return m.tree.Link(store, lun+"/disk")
}

// File is what is behind the nth disk of memory that a machine made, from 0 on.
func File(n int) string { return "/run/lio-" + diskName(n) }

func diskName(n int) string { return fmt.Sprintf("d%d", n) }

// disk makes the backstore of a LUN and returns where it is.
func (m *Machine) disk(t Target, l LUN) (string, error) {
	if l.Same != "" {
		store, ok := m.disks[l.Same]
		if !ok {
			return "", fmt.Errorf("LUN %d: there is no %s yet", l.Number, l.Same)
		}
		return store, nil
	}
	name := diskName(len(m.disks))
	key := fmt.Sprintf("%s/%d", t.IQN, l.Number)
	if t.Group > 1 {
		key += fmt.Sprintf(",%d", t.Group)
	}
	if l.Type != 0 {
		store, err := m.device(name, l.Type)
		m.disks[key] = store
		return store, err
	}
	serial := l.Serial
	if serial == "" {
		serial = fmt.Sprintf("%s-%d", t.IQN[strings.LastIndexByte(t.IQN, ':')+1:], l.Number)
	}
	store, control := "core/iblock_0/"+name, "udev_path="+l.Device
	if l.Device == "" {
		file := File(len(m.disks))
		if err := os.MkdirAll("/run", 0o755); err != nil {
			return "", err
		}
		var content []byte
		if l.Image != "" {
			var err error
			if content, err = os.ReadFile(l.Image); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return "", err
		}
		if err := os.Truncate(file, int64(l.MiB)<<20); err != nil {
			return "", err
		}
		store, control = "core/fileio_0/"+name, fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", file, l.MiB<<20)
	}
	if err := m.tree.Make(store); err != nil {
		return "", err
	}
	if err := m.tree.SetAll(store+"/control", control, store+"/enable", "1", store+"/wwn/vpd_unit_serial", serial); err != nil {
		return "", err
	}
	m.disks[key] = store
	return store, nil
}

// access says who may use a target.
func (m *Machine) access(t Target) error {
	tpg := t.tpg()
	auth := "0"
	if t.Auth != nil {
		auth = "1"
		if err := m.chap(tpg+"/auth", t.Auth); err != nil {
			return err
		}
	}
	for _, who := range t.Initiators {
		acl := tpg + "/acls/" + who.Name
		if err := m.tree.Make(acl); err != nil {
			return err
		}
		for _, l := range t.LUNs {
			own := fmt.Sprintf("%s/lun_%d", acl, l.Number)
			if err := m.tree.Make(own); err != nil {
				return err
			}
			if err := m.tree.Link(fmt.Sprintf("%s/lun/lun_%d", tpg, l.Number), own+"/disk"); err != nil {
				return err
			}
			protect := map[bool]string{false: "0", true: "1"}[l.ReadOnly]
			if err := m.tree.Set(own+"/write_protect", protect); err != nil {
				return err
			}
		}
		if who.Auth != nil {
			auth = "1"
			if err := m.chap(acl+"/auth", who.Auth); err != nil {
				return err
			}
		}
	}
	demo := "1"
	if len(t.Initiators) > 0 {
		demo = "0"
	}
	return m.tree.SetAll(tpg+"/attrib/authentication", auth, tpg+"/attrib/generate_node_acls", demo, tpg+"/attrib/cache_dynamic_acls", demo,
		tpg+"/attrib/demo_mode_write_protect", "0")
}

func (m *Machine) chap(dir string, a *Auth) error {
	if err := m.tree.SetAll(dir+"/userid", a.User, dir+"/password", a.Password); err != nil {
		return err
	}
	if a.MutualPassword == "" {
		return nil
	}
	return m.tree.SetAll(dir+"/userid_mutual", a.MutualUser, dir+"/password_mutual", a.MutualPassword)
}
