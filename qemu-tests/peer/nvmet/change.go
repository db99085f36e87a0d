package nvmet

import (
	"fmt"
	"strconv"
)

// Change makes a fault, or ends it.
func (t *Target) Change(c Change) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	link := fmt.Sprintf("ports/%d/subsystems/%s", c.Port, c.Subsystem)
	namespace := fmt.Sprintf("subsystems/%s/namespaces/%d/enable", c.Subsystem, c.Namespace)
	allowed := fmt.Sprintf("subsystems/%s/allowed_hosts/%s", c.Subsystem, c.Host)
	switch c.Do {
	case "link":
		return t.tree.Link("subsystems/"+c.Subsystem, link)
	case "unlink":
		return t.tree.Unlink(link)
	case "port-on", "port-off":
		for _, p := range t.cfg.Ports {
			if p.ID == c.Port {
				return t.portPower(p, c.Do == "port-on")
			}
		}
		return fmt.Errorf("nvmet: no port %d", c.Port)
	case "on", "off":
		for _, p := range t.cfg.Ports {
			if err := t.portPower(p, c.Do == "on"); err != nil {
				return err
			}
		}
		return nil
	case "ana":
		return t.ana(c.Port, c.Group, c.State)
	case "namespace-on":
		return t.tree.Set(namespace, "1")
	case "namespace-off":
		return t.tree.Set(namespace, "0")
	case "any-host": // there may be none on the list then (nvmet_subsys_attr_allow_any_host_store)
		names, err := t.tree.Names("subsystems/" + c.Subsystem + "/allowed_hosts")
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := t.tree.Unlink("subsystems/" + c.Subsystem + "/allowed_hosts/" + n); err != nil {
				return err
			}
		}
		return t.tree.Set("subsystems/"+c.Subsystem+"/attr_allow_any_host", "1")
	case "allow":
		if err := t.tree.Make("hosts/" + c.Host); err != nil {
			return err
		}
		return t.tree.Link("hosts/"+c.Host, allowed)
	case "forbid":
		return t.tree.Unlink(allowed)
	case "key":
		return t.tree.Set("hosts/"+c.Host+"/dhchap_key", c.Key)
	case "ctrl-key":
		return t.tree.Set("hosts/"+c.Host+"/dhchap_ctrl_key", c.Key)
	case "max-cntlid":
		return t.tree.Set("subsystems/"+c.Subsystem+"/attr_cntlid_max", strconv.Itoa(c.Number))
	case "silence", "speak":
		f := t.fakes[c.Listen]
		if f == nil {
			return fmt.Errorf("nvmet: no fake listens on %s", c.Listen)
		}
		f.speak(c.Do == "speak")
		return nil
	}
	return fmt.Errorf("nvmet: %q is no change", c.Do)
}

func (t *Target) portPower(p Port, on bool) error {
	if on {
		return t.linkAll(p)
	}
	return t.unlinkAll(p)
}
