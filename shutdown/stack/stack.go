// Package stack reads what is set up on the running machine, whoever set it
// up: mounts, bind mounts, loop devices, device-mapper devices, md arrays,
// connections to storage over a network, swap, and the processes that use them.
//
// It owns that reading and the edges between the nodes. It reads /proc and
// /sys only, never a path on a device: nothing here can sleep on a dead one.
// It takes nothing down.
package stack

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"initd/hw/mount"
)

// Kind of a node.
type Kind string

// Kinds.
const (
	Mount Kind = "mount"
	Loop  Kind = "loop"
	DM    Kind = "dm"
	MD    Kind = "md"
	Swap  Kind = "swap"
	NVMe  Kind = "nvme" // a connection, not a device of the machine
	ISCSI Kind = "iscsi"
)

// Node is one thing that can be taken down.
type Node struct {
	ID    string   // "mount 43" (its mount ID), "loop0", "dm-2", "swap /dev/dm-1"
	Kind  Kind     //
	Name  string   // what people call it: the mount point, the dm name, /dev/loop0
	Path  string   // what the operation takes: a mount point, a dm name, a device or file
	Below []string // IDs it stands on
	// Keep says why the node must stay ("the root"); empty: it may go.
	Keep   string
	Detail string // "ext4 on /dev/mapper/a", the backing file of a loop device
}

// Stack is the live graph.
type Stack struct{ Nodes []Node }

// Node returns the node with this ID, or nil.
func (s *Stack) Node(id string) *Node {
	for i := range s.Nodes {
		if s.Nodes[i].ID == id {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Read reads the graph below root, which holds proc and sys ("/" on a
// running machine).
func Read(root string) (*Stack, error) {
	fsys := os.DirFS(root)
	f, err := fsys.Open("proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the stack: %w", err)
	}
	defer f.Close()
	mounts, err := mount.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("read the stack: %w", err)
	}
	r := &reader{fsys: fsys, root: root, mounts: mounts, devices: map[string]string{}, mapper: map[string]string{}}
	r.nvmeControllers()
	r.iscsiSessions()
	r.blockDevices()
	r.swaps()
	r.mountNodes()
	r.keepBelow()
	return &Stack{Nodes: r.nodes}, nil
}

type reader struct {
	fsys    fs.FS
	root    string
	mounts  []mount.Info
	devices map[string]string // MAJOR:MINOR -> kernel name of every block device
	mapper  map[string]string // dm name -> kernel name
	nvme    map[string]bool   // controllers that are connections
	iscsi   []string          // sessions of ours
	nodes   []Node
}

func (r *reader) text(name string) string {
	b, err := fs.ReadFile(r.fsys, name)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n")
}

// blockDevices makes a node of every loop and dm device that is set up.
func (r *reader) blockDevices() {
	entries, _ := fs.ReadDir(r.fsys, "sys/class/block")
	for _, e := range entries {
		name := e.Name()
		dir := "sys/class/block/" + name
		if number := r.text(dir + "/dev"); number != "" {
			r.devices[number] = name
		}
	}
	for _, name := range sortedValues(r.devices) {
		dir := "sys/class/block/" + name
		switch {
		case strings.HasPrefix(name, "dm-"):
			n := Node{ID: name, Kind: DM, Name: r.text(dir + "/dm/name"), Detail: r.text(dir + "/dm/uuid")}
			if n.Name == "" {
				continue // it is going just now, or not yet there
			}
			n.Path = n.Name
			n.Below = r.slaves(dir)
			r.mapper[n.Name] = name
			r.nodes = append(r.nodes, n)
		case strings.HasPrefix(name, "md") && r.text(dir+"/md/array_state") != "":
			if state := r.text(dir + "/md/array_state"); state == "clear" || state == "inactive" {
				continue
			}
			n := Node{ID: name, Kind: MD, Name: "/dev/" + name, Path: "/dev/" + name, Detail: r.text(dir + "/md/level")}
			n.Below = r.slaves(dir)
			r.nodes = append(r.nodes, n)
		case strings.HasPrefix(name, "loop"):
			file := r.text(dir + "/loop/backing_file")
			if file == "" {
				continue
			}
			file = strings.TrimSuffix(file, " (deleted)")
			n := Node{ID: name, Kind: Loop, Name: "/dev/" + name, Path: "/dev/" + name, Detail: file}
			if m := r.holding(file); m != nil {
				n.Below = []string{mountID(m)}
			}
			r.nodes = append(r.nodes, n)
		}
	}
}

// slaves lists the devices that a device stands on; a partition stands for
// itself and for its disk (a loop device may be partitioned).
func (r *reader) slaves(dir string) []string {
	var list []string
	entries, _ := fs.ReadDir(r.fsys, dir+"/slaves")
	for _, e := range entries {
		list = append(list, r.wholes(e.Name())...)
	}
	return list
}

// wholes returns a device's name, and its disk's where it is a partition.
func (r *reader) wholes(name string) []string {
	list := []string{name}
	if _, err := fs.Stat(r.fsys, "sys/class/block/"+name+"/partition"); err == nil {
		if to, err := os.Readlink(path.Join(r.root, "sys/class/block", name)); err == nil {
			list = append(list, path.Base(path.Dir(to)))
		}
	}
	for _, n := range list {
		list = append(list, r.controllersOf(n)...)
		list = append(list, r.sessionOf(n)...)
	}
	return list
}

func (r *reader) swaps() {
	for i, line := range strings.Split(r.text("proc/swaps"), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) < 2 {
			continue
		}
		file := mount.Unescape(f[0])
		n := Node{ID: "swap " + file, Kind: Swap, Name: file, Path: file, Detail: f[1]}
		if f[1] == "file" {
			if m := r.holding(file); m != nil {
				n.Below = []string{mountID(m)}
			}
		} else {
			n.Below = r.node(file)
		}
		r.nodes = append(r.nodes, n)
	}
}

func mountID(m *mount.Info) string { return fmt.Sprintf("mount %d", m.ID) }

// mountNodes makes a node of every mount. It stands on its device and on the
// mount that its point lies on.
func (r *reader) mountNodes() {
	byID := map[int]*mount.Info{}
	for i := range r.mounts {
		byID[r.mounts[i].ID] = &r.mounts[i]
	}
	for i := range r.mounts {
		m := &r.mounts[i]
		n := Node{ID: mountID(m), Kind: Mount, Name: m.Point, Path: m.Point, Detail: m.Type + " on " + m.Source, Keep: keepMount(m)}
		if p := byID[m.Parent]; p != nil && p != m { // the first mount is its own parent
			n.Below = append(n.Below, mountID(p))
		}
		if dev := r.devices[fmt.Sprintf("%d:%d", m.Major, m.Minor)]; dev != "" {
			n.Below = append(n.Below, r.wholes(dev)...)
		}
		n.Below = append(n.Below, r.behind(m)...)
		r.nodes = append(r.nodes, n)
	}
}

// behind lists what a mount stands on that its device number does not tell:
// the devices of a btrfs (its number is made up), the external log of an xfs,
// the layers of an overlay.
func (r *reader) behind(m *mount.Info) []string {
	var list []string
	if m.Type == "btrfs" {
		list = append(list, r.btrfs(m.Source)...)
	}
	for _, o := range m.Super {
		option, value, _ := strings.Cut(o, "=")
		switch {
		case m.Type == "xfs" && (option == "logdev" || option == "rtdev"):
			list = append(list, r.node(value)...)
		case m.Type == "overlay" && (option == "upperdir" || option == "workdir" || option == "lowerdir" || option == "lowerdir+" || option == "datadir+"):
			for dir := range strings.SplitSeq(value, ":") {
				if on := r.holding(dir); on != nil && on != m && path.IsAbs(dir) {
					list = append(list, mountID(on))
				}
			}
		}
	}
	return list
}

// btrfs lists all devices of the file system that has source among them.
func (r *reader) btrfs(source string) []string {
	own := r.node(source)
	systems, _ := fs.ReadDir(r.fsys, "sys/fs/btrfs")
	for _, s := range systems {
		devices, _ := fs.ReadDir(r.fsys, "sys/fs/btrfs/"+s.Name()+"/devices")
		var all []string
		for _, d := range devices {
			all = append(all, r.wholes(d.Name())...)
		}
		if len(own) > 0 && slices.Contains(all, own[0]) {
			return all
		}
	}
	return own
}

// node lists the names of the device that a path in /dev means, as wholes does.
func (r *reader) node(file string) []string {
	if name, ok := strings.CutPrefix(file, "/dev/mapper/"); ok {
		if kernel := r.mapper[name]; kernel != "" {
			return []string{kernel}
		}
		return nil
	}
	if name, ok := strings.CutPrefix(file, "/dev/"); ok {
		return r.wholes(name)
	}
	return nil
}

// keepMount says why a mount is not taken down: it is the root, or the system
// needs it to the end and no device stands below it.
func keepMount(m *mount.Info) string {
	if m.Point == "/" {
		return "the root"
	}
	for _, p := range []string{"/proc", "/sys", "/dev"} {
		if m.Point == p || strings.HasPrefix(m.Point, p+"/") {
			return "the system's"
		}
	}
	if m.Point == "/run" || strings.HasPrefix(m.Point, "/run/") && m.Major == 0 {
		return "the system's"
	}
	return ""
}

// holding finds the mount that a path lies on: the longest point, the last of
// equal ones.
func (r *reader) holding(file string) *mount.Info {
	var best *mount.Info
	for i := range r.mounts {
		m := &r.mounts[i]
		if m.Point == "/" || file == m.Point || strings.HasPrefix(file, m.Point+"/") {
			if best == nil || len(m.Point) >= len(best.Point) {
				best = m
			}
		}
	}
	return best
}

// keepBelow keeps everything that a kept node stands on.
func (r *reader) keepBelow() {
	at := map[string]int{}
	for i := range r.nodes {
		at[r.nodes[i].ID] = i
	}
	var keep func(id, why string)
	keep = func(id, why string) {
		i, ok := at[id]
		if !ok {
			return
		}
		for _, b := range r.nodes[i].Below {
			if j, ok := at[b]; ok && r.nodes[j].Keep == "" {
				r.nodes[j].Keep = "below " + why
				keep(b, why)
			}
		}
	}
	for i := range r.nodes {
		if n := &r.nodes[i]; n.Keep != "" {
			keep(n.ID, n.Name)
		}
	}
}

func sortedValues(m map[string]string) []string {
	var list []string
	for _, v := range m {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}
