package stack

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// iscsiSessions makes a node of every iSCSI session that initd made. Those of
// others (iscsid's) are others' to end.
func (r *reader) iscsiSessions() {
	entries, _ := fs.ReadDir(r.fsys, "sys/class/iscsi_session")
	for _, e := range entries {
		dir := "sys/class/iscsi_session/" + e.Name()
		if !strings.HasPrefix(r.text(dir+"/ifacename"), "initd-") {
			continue
		}
		r.iscsi = append(r.iscsi, e.Name())
		conn := "sys/class/iscsi_connection/connection" + strings.TrimPrefix(e.Name(), "session") + ":0"
		host := r.text(conn + "/persistent_address")
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		name := r.text(dir+"/targetname") + " at " + host + ":" + r.text(conn+"/persistent_port")
		r.nodes = append(r.nodes, Node{ID: e.Name(), Kind: ISCSI, Name: name, Path: strings.TrimPrefix(e.Name(), "session"), Detail: r.text(dir + "/state")})
	}
}

// sessionOf is the session that a disk ("sda") is reached by, if it is one of
// those: the device lies below it.
func (r *reader) sessionOf(disk string) []string {
	if len(r.iscsi) == 0 {
		return nil
	}
	to, err := os.Readlink(path.Join(r.root, "sys/class/block", disk))
	if err != nil {
		return nil
	}
	for part := range strings.SplitSeq(to, "/") {
		if slices.Contains(r.iscsi, part) {
			return []string{part}
		}
	}
	return nil
}
