package iscsi

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"initd/hw/sysfs"
)

// Session is one session of the kernel's, as sysfs shows it, whoever made it.
type Session struct {
	ID        uint32 `json:"id"`
	Host      uint32 `json:"host"`
	Target    string `json:"target"`
	Tag       int    `json:"tag"`
	Initiator string `json:"initiator"`
	State     string `json:"state"`      // LOGGED_IN, FAILED, FREE
	Conn      string `json:"connection"` // up, down, failed, bound; empty without one
	Address   string `json:"address"`    // where it is connected to now, HOST:PORT
	Portal    string `json:"portal"`     // the persistent one: before redirections, HOST:PORT
	Iface     string `json:"iface"`      // what made it: initd-ISID, or a name of open-iscsi's
	Recovery  string `json:"recoveryTimeout"`
	Disks     []Disk `json:"disks"`
}

// Disk is a LUN of a session.
type Disk struct {
	LUN  uint64 `json:"lun"`
	Name string `json:"name"` // sda
	WWID string `json:"wwid,omitempty"`
}

// Node is the disk's device node.
func (d Disk) Node() string { return "/dev/" + d.Name }

// sectors is its size, 0 too where that cannot be read.
func (d Disk) sectors(sys *sysfs.FS) uint64 {
	n, err := sys.Uint("sys/class/block/" + d.Name + "/size")
	if err != nil {
		return 0
	}
	return n
}

// mark is how a session of ours is told from others', in the kernel itself: the name of its interface, with its ISID.
const mark = "initd-"

// ISID tells whether this program made the session, and as whom.
func (s Session) ISID() (ISID, bool) {
	text, ok := strings.CutPrefix(s.Iface, mark)
	if !ok {
		return ISID{}, false
	}
	i, err := ParseISID(text)
	return i, err == nil
}

// Ours tells whether this program made the session and keeps it.
func (s Session) Ours() bool { _, ok := s.ISID(); return ok }

// LoggedIn tells whether I/O flows.
func (s Session) LoggedIn() bool { return s.State == "LOGGED_IN" && (s.Conn == "up" || s.Conn == "") }

// failed tells that its connection was lost. One that is only now made is not logged in either.
func (s Session) failed() bool { return s.State == "FAILED" || s.Conn == "failed" }

// Sessions lists every session; none without the kernel's iSCSI.
func Sessions(sys *sysfs.FS) ([]Session, error) {
	return sessions(sys, func(string) bool { return true })
}

// SessionsOf lists the sessions with one target. Of the others only the target's name is read: whoever looks for one disk among
// hundreds does it once for each.
func SessionsOf(sys *sysfs.FS, target string) ([]Session, error) {
	return sessions(sys, func(dir string) bool {
		name, err := sys.String(dir + "/targetname")
		return err == nil && name == target
	})
}

func sessions(sys *sysfs.FS, wanted func(dir string) bool) ([]Session, error) {
	names, err := sys.Names("sys/class/iscsi_session")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list iSCSI sessions: %w", err)
	}
	var list []Session
	for _, n := range names {
		id, err := strconv.ParseUint(strings.TrimPrefix(n, "session"), 10, 32)
		if err != nil || !wanted(sessionDir(uint32(id))) {
			continue
		}
		s, err := readSession(sys, uint32(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read iSCSI session %d: %w", id, err)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// ReadSession reads one; fs.ErrNotExist if there is none.
func ReadSession(sys *sysfs.FS, id uint32) (Session, error) {
	s, err := readSession(sys, id)
	if err != nil {
		return s, fmt.Errorf("read iSCSI session %d: %w", id, err)
	}
	return s, nil
}

func sessionDir(id uint32) string {
	return "sys/class/iscsi_session/session" + strconv.FormatUint(uint64(id), 10)
}

func readSession(sys *sysfs.FS, id uint32) (Session, error) {
	dir := sessionDir(id)
	s := Session{ID: id, Tag: -1, Disks: []Disk{}}
	text := func(name string) string {
		v, err := sys.String(name)
		if err != nil {
			return ""
		}
		return unset(v)
	}
	state, err := sys.String(dir + "/state")
	if err != nil {
		return s, err
	}
	s.State = state
	s.Target, s.Initiator, s.Iface = text(dir+"/targetname"), text(dir+"/initiatorname"), text(dir+"/ifacename")
	s.Recovery = text(dir + "/recovery_tmo")
	if n, err := strconv.Atoi(text(dir + "/tpgt")); err == nil {
		s.Tag = n
	}
	conn := fmt.Sprintf("sys/class/iscsi_connection/connection%d:0", id)
	s.Conn = text(conn + "/state")
	s.Address = joined(text(conn+"/address"), text(conn+"/port"))
	s.Portal = joined(text(conn+"/persistent_address"), text(conn+"/persistent_port"))
	real, err := sys.Real(dir + "/device")
	if err != nil {
		return s, err
	}
	if host, ok := strings.CutPrefix(path.Base(path.Dir(real)), "host"); ok {
		if n, err := strconv.ParseUint(host, 10, 32); err == nil {
			s.Host = uint32(n)
		}
	}
	s.Disks = readDisks(sys, real)
	return s, nil
}

func joined(host, port string) string {
	if host == "" {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// readDisks finds the LUNs of a session: session/targetH:C:T/H:C:T:L/block/sdX.
func readDisks(sys *sysfs.FS, session string) []Disk {
	list := []Disk{}
	for _, unit := range units(sys, session) {
		lun, err := strconv.ParseUint(unit[strings.LastIndexByte(unit, ':')+1:], 10, 64)
		if err != nil {
			continue
		}
		blocks, err := sys.Names(unit + "/block")
		if err != nil || len(blocks) == 0 {
			continue
		}
		d := Disk{LUN: lun, Name: blocks[0]}
		if w, err := sys.String(unit + "/wwid"); err == nil {
			d.WWID = w
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Disk) int { return cmp.Compare(a.LUN, b.LUN) })
	return list
}

// units lists the SCSI devices of a session.
func units(sys *sysfs.FS, session string) []string {
	var list []string
	targets, err := sys.Names(session)
	if err != nil {
		return nil
	}
	for _, t := range targets {
		if !strings.HasPrefix(t, "target") {
			continue
		}
		names, err := sys.Names(session + "/" + t)
		if err != nil {
			continue
		}
		for _, n := range names {
			if strings.Count(n, ":") == 3 && n[0] >= '0' && n[0] <= '9' {
				list = append(list, session+"/"+t+"/"+n)
			}
		}
	}
	return list
}

// scan has the kernel look for one LUN of a session, or for all; it can sleep for as long as the target does not answer.
func scan(host uint32, lun string) error {
	return writeAttribute(fmt.Sprintf("/sys/class/scsi_host/host%d/scan", host), "- - "+lun)
}

// reread has the kernel read a disk's size and what else it is anew (scsi_rescan_device, drivers/scsi/scsi_scan.c); it can sleep for as long
// as the target does not answer.
func reread(unit string) error { return writeAttribute("/"+unit+"/rescan", "1") }
