package debian

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Account is a user, a group, or both of one name, that a package wants on the system.
type Account struct {
	Name string
	// User is false for a group alone.
	User bool
	// UID and GID are what the package insists on; 0: any of the system's range.
	UID, GID int
	// Group is the user's primary group; empty: the one of the same name.
	Group string
	// Groups are further groups that the user is in.
	Groups             []string
	Gecos, Home, Shell string
}

// Ownership is what a package's scripts change about a file or folder.
type Ownership struct {
	Path         string
	Owner, Group string // empty: as it is
	Mode         fs.FileMode
	SetMode      bool
	// Recursive: all below it too.
	Recursive bool
	// Make the folder if it is not there.
	Make bool
}

// Setup is what installing a package would do beside putting files in place.
type Setup struct {
	Accounts   []Account
	Ownerships []Ownership
}

// Setup reads what the package says: sysusers.d(5), tmpfiles.d(5), and adduser, addgroup, useradd, groupadd, chown,
// chmod and dpkg-statoverride in its scripts. Folders below /var/lib, /var/log and /var/cache that have an account's name
// and stand in a script are made and given to it, as such scripts do by way of functions of their own.
func (p *Package) Setup() (Setup, error) {
	var s Setup
	for _, f := range p.Files {
		dir := path.Dir(f.Path)
		if !strings.HasSuffix(f.Path, ".conf") || dir != "/usr/lib/sysusers.d" && dir != "/usr/lib/tmpfiles.d" {
			continue
		}
		b, err := os.ReadFile(p.Disk(f))
		if err != nil {
			return s, err
		}
		text := string(b)
		if dir == "/usr/lib/sysusers.d" {
			s.Accounts = append(s.Accounts, parseSysusers(text)...)
		} else {
			s.Ownerships = append(s.Ownerships, parseTmpfiles(text)...)
		}
	}
	for _, name := range []string{"preinst", "postinst"} {
		accounts, ownerships := parseScript(p.Scripts[name])
		s.Accounts = append(s.Accounts, accounts...)
		s.Ownerships = append(s.Ownerships, ownerships...)
	}
	s.Accounts = mergeAccounts(s.Accounts)
	return s, nil
}

// mergeAccounts makes one of a group and a user of the same name.
func mergeAccounts(list []Account) []Account {
	var out []Account
	for _, a := range list {
		i := slices.IndexFunc(out, func(b Account) bool { return a.Name == b.Name })
		if i < 0 {
			out = append(out, a)
			continue
		}
		b := &out[i]
		if a.User && !b.User {
			a.GID = max(a.GID, b.GID)
			a.Groups = append(b.Groups, a.Groups...)
			*b = a
			continue
		}
		b.Groups = append(b.Groups, a.Groups...)
	}
	return out
}

// parseSysusers reads lines "u NAME ID GECOS HOME SHELL", "g NAME ID" and "m USER GROUP".
func parseSysusers(text string) []Account {
	var list []Account
	for line := range strings.SplitSeq(text, "\n") {
		all := splitCommands(line)
		if len(all) == 0 || len(all[0]) < 2 || !isAccount(all[0][1]) {
			continue
		}
		f := append(all[0], "-", "-", "-", "-")
		for i := range f {
			if f[i] == "-" {
				f[i] = ""
			}
		}
		a := Account{Name: f[1]}
		switch strings.TrimSuffix(f[0], "!") {
		case "u":
			a.User = true
			uid, group, _ := strings.Cut(f[2], ":")
			a.UID = number(uid)
			if a.GID = number(group); a.GID == 0 && isAccount(group) {
				a.Group = group
			}
			a.Gecos, a.Home, a.Shell = f[3], f[4], f[5]
			a, _ = a.clean("/")
		case "g":
			a.GID = number(f[2])
		case "m":
			if !isAccount(f[2]) {
				continue
			}
			a.Groups = []string{f[2]}
		default:
			continue
		}
		list = append(list, a)
	}
	return list
}

// parseTmpfiles reads the lines that make folders or change owners: types d, D, z and Z.
func parseTmpfiles(text string) []Ownership {
	var list []Ownership
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || !path.IsAbs(f[1]) || strings.ContainsAny(f[1], "%*?[") {
			continue
		}
		f = append(f, "-", "-", "-")
		o := Ownership{Path: Merged(f[1])}
		switch strings.TrimRight(f[0], "!+-=~^") {
		case "d", "D":
			o.Make = true
		case "z":
		case "Z":
			o.Recursive = true
		default:
			continue
		}
		o.setMode(strings.TrimLeft(f[2], "~:"))
		if isAccount(f[3]) {
			o.Owner = f[3]
		}
		if isAccount(f[4]) {
			o.Group = f[4]
		}
		list = append(list, o)
	}
	return list
}

func (o *Ownership) setMode(octal string) {
	if v, err := strconv.ParseUint(octal, 8, 12); err == nil && len(octal) >= 3 {
		o.Mode, o.SetMode = unixMode(v), true
	}
}

func unixMode(v uint64) fs.FileMode {
	m := fs.FileMode(v & 0o777)
	for bit, mode := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if v&bit != 0 {
			m |= mode
		}
	}
	return m
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 65533 {
		return 0
	}
	return n
}

// clean makes a user's fields such that they can stand in passwd(5), with home where there is none; ok is false if the
// names cannot.
func (a Account) clean(home string) (_ Account, ok bool) {
	a.Gecos = strings.Map(func(c rune) rune {
		if c == ':' || c < ' ' {
			return ' '
		}
		return c
	}, a.Gecos)
	for field, otherwise := range map[*string]string{&a.Home: home, &a.Shell: "/usr/sbin/nologin"} {
		if !path.IsAbs(*field) || strings.ContainsFunc(*field, func(c rune) bool { return c == ':' || c <= ' ' || c == '$' }) {
			*field = otherwise
		}
	}
	return a, isAccount(a.Name) && (a.Group == "" || isAccount(a.Group))
}

// isAccount: adduser.conf's NAME_REGEX for system accounts, which keeps colons and slashes out of /etc/passwd.
func isAccount(name string) bool {
	return name != "" && len(name) <= 32 && name[0] != '-' && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, func(c rune) bool {
		return !(c == '_' || c == '-' || c == '.' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9')
	})
}
