package lio

import (
	"fmt"
	"slices"
	"strings"
)

// Change makes a fault, or ends it.
func (m *Machine) Change(c Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tpg := group(c.Target, c.Group)
	auth := tpg + "/acls/" + c.Initiator + "/auth/"
	switch c.Do {
	case "on", "off":
		return m.power(c, map[string]string{"on": "1", "off": "0"}[c.Do])
	case "portal-on":
		return m.tree.Make(tpg + "/np/" + c.Portal)
	case "portal-off":
		return m.tree.Remove(tpg + "/np/" + c.Portal)
	case "password":
		return m.tree.Set(auth+"password", c.Value)
	case "mutual-password":
		return m.tree.Set(auth+"password_mutual", c.Value)
	case "attribute", "parameter":
		name, value, _ := strings.Cut(c.Value, "=")
		return m.tree.Set(tpg+"/"+map[string]string{"attribute": "attrib", "parameter": "param"}[c.Do]+"/"+name, value)
	case "serve":
		if s := m.scripted[c.Portal]; s != nil {
			s.Close()
			delete(m.scripted, c.Portal)
		}
		return Late{Listen: c.Portal, To: c.Value}.listen(m.ctx)
	case "ask-logout", "cut-at", "mend":
		r := m.relays[c.Portal]
		if r == nil {
			return fmt.Errorf("lio: no relay listens on %s", c.Portal)
		}
		return r.change(c)
	}
	i := slices.IndexFunc(m.cfg.Targets, func(t Target) bool { return t.tpg() == tpg })
	if i < 0 {
		return fmt.Errorf("lio: %q at %s is no change", c.Do, c.Target)
	}
	t := m.cfg.Targets[i]
	switch {
	case c.Do == "add":
		return m.target(t)
	case c.Do == "allow":
		t.Initiators = []Initiator{{Name: c.Initiator}}
		return m.access(t)
	case c.Do == "mount" && c.LUN != nil:
		return m.mount(t, c.LUN.Number)
	case c.Do == "lun-add" && c.LUN != nil:
		return m.lun(t, *c.LUN)
	case c.Do == "lun-same" && c.LUN != nil:
		if err := m.tree.Unlink(fmt.Sprintf("%s/lun/lun_%d/disk", tpg, c.LUN.Number)); err != nil {
			return err
		}
		return m.lun(t, *c.LUN)
	}
	return fmt.Errorf("lio: %q is no change", c.Do)
}

// power switches one target, or all of them.
func (m *Machine) power(c Change, value string) error {
	if c.Target != "" {
		return m.tree.Set(group(c.Target, c.Group)+"/enable", value)
	}
	for _, t := range m.cfg.Targets {
		if err := m.tree.Set(t.tpg()+"/enable", value); err != nil {
			return err
		}
	}
	return nil
}
