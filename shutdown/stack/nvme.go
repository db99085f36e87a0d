package stack

import (
	"io/fs"
	"os"
	"path"
	"strings"
)

// nvmeControllers makes a node of every connection to an NVMe subsystem. What is
// on its disks stands on all of them: with the last one the disk goes.
func (r *reader) nvmeControllers() {
	r.nvme = map[string]bool{}
	entries, _ := fs.ReadDir(r.fsys, "sys/class/nvme")
	for _, e := range entries {
		dir := "sys/class/nvme/" + e.Name()
		switch r.text(dir + "/transport") {
		case "tcp", "rdma", "fc":
		default:
			continue // a device of this machine
		}
		r.nvme[e.Name()] = true
		name := r.text(dir+"/subsysnqn") + " at " + nvmePlace(r.text(dir+"/address"))
		r.nodes = append(r.nodes, Node{ID: e.Name(), Kind: NVMe, Name: name, Path: e.Name(), Detail: r.text(dir + "/state")})
	}
}

// controllersOf lists the connections that a disk ("nvme0n1") is reached by:
// those of the subsystem that it hangs below, or the one, where multipathing is
// off.
func (r *reader) controllersOf(disk string) []string {
	if len(r.nvme) == 0 || !strings.HasPrefix(disk, "nvme") {
		return nil
	}
	to, err := os.Readlink(path.Join(r.root, "sys/class/block", disk))
	if err != nil {
		return nil
	}
	above := path.Base(path.Dir(to))
	if r.nvme[above] {
		return []string{above}
	}
	entries, _ := fs.ReadDir(r.fsys, "sys/class/nvme-subsystem/"+above)
	var list []string
	for _, e := range entries {
		if r.nvme[e.Name()] {
			list = append(list, e.Name())
		}
	}
	return list
}

// nvmePlace reads the portal out of "traddr=192.0.2.40,trsvcid=4420,…".
func nvmePlace(address string) string {
	host, port := "", ""
	for field := range strings.SplitSeq(address, ",") {
		switch k, v, _ := strings.Cut(field, "="); k {
		case "traddr":
			host = v
		case "trsvcid":
			port = v
		}
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}
