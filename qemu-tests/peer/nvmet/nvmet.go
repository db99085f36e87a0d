package nvmet

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"initd/qemu-tests/guest/kernel"
	"initd/qemu-tests/peer/configfs"
)

// Target is a running one. Its methods may be called from any goroutine.
type Target struct {
	cfg Config

	mu    sync.Mutex
	tree  configfs.Tree
	fakes map[string]*fake
}

// filesDir holds the files of namespaces that have no device.
const filesDir = "/run/nvmet"

// Start configures all of it. The fakes end with ctx; what is in the kernel stays.
func Start(ctx context.Context, cfg Config) (*Target, error) {
	tree, err := configfs.Mount("nvmet")
	if err != nil {
		return nil, err
	}
	t := &Target{cfg: cfg, tree: tree, fakes: map[string]*fake{}}
	for _, s := range cfg.Subsystems {
		if err := t.subsystem(s); err != nil {
			return nil, fmt.Errorf("nvmet: %s: %w", s.NQN, err)
		}
	}
	for _, p := range cfg.Ports {
		if err := t.port(p); err != nil {
			return nil, fmt.Errorf("nvmet: port %d: %w", p.ID, err)
		}
	}
	for _, f := range cfg.Fakes {
		if t.fakes[f.Listen], err = startFake(ctx, f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Target) subsystem(s Subsystem) error {
	at := "subsystems/" + s.NQN
	if err := t.tree.Make(at); err != nil {
		return err
	}
	anyHost := "1"
	if len(s.Hosts) > 0 {
		anyHost = "0"
	}
	if err := t.tree.Set(at+"/attr_allow_any_host", anyHost); err != nil {
		return err
	}
	if s.Serial != "" {
		if err := t.tree.Set(at+"/attr_serial", s.Serial); err != nil {
			return err
		}
	}
	if s.MaxCntlid > 0 {
		if err := t.tree.Set(at+"/attr_cntlid_max", strconv.Itoa(s.MaxCntlid)); err != nil {
			return err
		}
	}
	for _, h := range s.Hosts {
		if err := t.host(h); err != nil {
			return err
		}
		if err := t.tree.Link("hosts/"+h.NQN, at+"/allowed_hosts/"+h.NQN); err != nil {
			return err
		}
	}
	for _, n := range s.Namespaces {
		if err := t.namespace(s, n); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) host(h Host) error {
	at := "hosts/" + h.NQN
	if err := t.tree.Make(at); err != nil {
		return err
	}
	for _, a := range []struct{ name, value string }{
		{"dhchap_hash", h.Hash}, {"dhchap_dhgroup", h.DHGroup}, {"dhchap_key", h.Key}, {"dhchap_ctrl_key", h.CtrlKey},
	} {
		if a.value == "" {
			continue
		}
		if err := t.tree.Set(at+"/"+a.name, a.value); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) namespace(s Subsystem, n Namespace) error {
	at := fmt.Sprintf("subsystems/%s/namespaces/%d", s.NQN, n.ID)
	device, err := t.device(s, n)
	if err != nil {
		return err
	}
	if err := t.tree.Make(at); err != nil {
		return err
	}
	pairs := []string{at + "/device_path", device}
	if n.FileMiB > 0 {
		pairs = append(pairs, at+"/buffered_io", "1") // a file in memory knows no O_DIRECT
	}
	if n.UUID != "" {
		pairs = append(pairs, at+"/device_uuid", n.UUID)
	}
	if n.ANAGroup > 0 {
		pairs = append(pairs, at+"/ana_grpid", strconv.Itoa(n.ANAGroup))
	}
	return t.tree.SetAll(append(pairs, at+"/enable", "1")...)
}

// device finds, or makes, what a namespace is on.
func (t *Target) device(s Subsystem, n Namespace) (string, error) {
	if n.FileMiB > 0 {
		if err := os.MkdirAll(filesDir, 0o755); err != nil {
			return "", err
		}
		name := fmt.Sprintf("%s/%s-%d", filesDir, strings.ReplaceAll(s.NQN, ":", "_"), n.ID)
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return name, f.Truncate(int64(n.FileMiB) << 20)
	}
	serial, ok := strings.CutPrefix(n.Device, "serial:")
	if !ok {
		return n.Device, nil
	}
	serial, partition, _ := strings.Cut(serial, "/")
	disk, err := kernel.Disk(serial)
	if err != nil {
		return "", fmt.Errorf("namespace %d: %w", n.ID, err)
	}
	return disk + partition, nil
}

func (t *Target) port(p Port) error {
	at := fmt.Sprintf("ports/%d", p.ID)
	if err := t.tree.Make(at); err != nil {
		return err
	}
	family := "ipv4"
	if strings.Contains(p.Address, ":") {
		family = "ipv6"
	}
	if err := t.tree.SetAll(at+"/addr_trtype", "tcp", at+"/addr_adrfam", family, at+"/addr_traddr", p.Address, at+"/addr_trsvcid", p.Service); err != nil {
		return err
	}
	for group, state := range p.ANA {
		if err := t.ana(p.ID, group, state); err != nil {
			return err
		}
	}
	return t.linkAll(p)
}

// linkAll makes a port listen: the first link does.
func (t *Target) linkAll(p Port) error {
	for _, s := range p.Subsystems {
		if err := t.tree.Link("subsystems/"+s, fmt.Sprintf("ports/%d/subsystems/%s", p.ID, s)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) unlinkAll(p Port) error {
	dir := fmt.Sprintf("ports/%d/subsystems", p.ID)
	names, err := t.tree.Names(dir)
	if err != nil {
		return err
	}
	for _, s := range names {
		if err := t.tree.Unlink(dir + "/" + s); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) ana(port, group int, state string) error {
	at := fmt.Sprintf("ports/%d/ana_groups/%d", port, group)
	if err := t.tree.Make(at); err != nil {
		return err
	}
	return t.tree.Set(at+"/ana_state", state)
}
