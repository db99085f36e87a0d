package initramfs

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"initd/images/debian"
)

// accounts are the users and groups of an image.
type accounts struct {
	users  map[string]user
	groups map[string]group
}

type user struct {
	uid, gid           uint32
	gecos, home, shell string
	by                 string
}

type group struct {
	gid     uint32
	members []string
}

// static are the numbers that every Debian has (base-passwd): users and groups of the same number.
func static() map[string]uint32 {
	return map[string]uint32{
		"root": 0, "daemon": 1, "bin": 2, "sys": 3, "games": 60, "man": 6, "lp": 7, "mail": 8, "news": 9, "uucp": 10, "proxy": 13,
		"www-data": 33, "backup": 34, "list": 38, "irc": 39, "nobody": 65534,
	}
}

// staticGroups are groups of base-passwd without a user, or with another number.
func staticGroups() map[string]uint32 {
	return map[string]uint32{
		"adm": 4, "tty": 5, "disk": 6, "kmem": 15, "dialout": 20, "cdrom": 24, "floppy": 25, "tape": 26, "sudo": 27, "audio": 29, "operator": 37,
		"src": 40, "shadow": 42, "utmp": 43, "video": 44, "sasl": 45, "plugdev": 46, "staff": 50, "games": 60, "users": 100, "man": 12, "nogroup": 65534,
	}
}

// addSetup makes the accounts that packages want and gives their files to them.
func (b *builder) addSetup(context.Context) error {
	b.accounts = &accounts{users: map[string]user{}, groups: map[string]group{}}
	b.accounts.add(debian.Account{Name: "root", User: true, Gecos: "root", Home: "/root", Shell: "/usr/sbin/nologin"}, byInitd, 0)
	for _, name := range []string{"daemon", "nobody"} {
		b.accounts.ensure(name, byInitd)
	}
	for _, name := range []string{"adm", "disk", "tty"} {
		b.accounts.ensureGroup(name)
	}
	// By name, so that the numbers do not depend on the order of packages.
	slices.SortFunc(b.packages, func(p, q contribution) int { return cmp.Compare(p.Name, q.Name) })
	var wanted []debian.Account
	type ownership struct {
		debian.Ownership
		contribution
	}
	var ownerships []ownership
	by := map[string]string{}
	for _, p := range b.packages {
		s, err := p.Setup()
		if err != nil {
			return fmt.Errorf("read what package %s sets up: %w", p.Name, err)
		}
		for _, a := range s.Accounts {
			wanted = append(wanted, a)
			by[a.Name] = p.Name + " " + p.Version
		}
		for _, o := range s.Ownerships {
			ownerships = append(ownerships, ownership{o, p})
		}
	}
	slices.SortStableFunc(wanted, func(a, c debian.Account) int {
		// Those that insist on a number come first.
		return cmp.Or(cmp.Compare(min(c.UID+c.GID, 1), min(a.UID+a.GID, 1)), cmp.Compare(a.Name, c.Name))
	})
	for _, a := range wanted {
		b.accounts.add(a, by[a.Name], b.accounts.free(a.Name))
	}
	for _, ask := range b.spec.Users {
		if !b.accounts.ensure(ask.Name, ask.By) {
			return fmt.Errorf("%s runs as user %s, whom no package of the image makes; add the package that does to image.packages", ask.By, ask.Name)
		}
	}
	for _, o := range ownerships {
		b.own(o.Ownership, o.contribution)
	}
	for _, n := range b.tree {
		if _, _, err := b.accounts.ids(n.owner, n.group); err != nil {
			return fmt.Errorf("%s (from %s): %w", n.path, n.from, err)
		}
	}
	if b.tree["/etc/passwd"] == nil {
		b.tree.text("/etc/passwd", b.accounts.passwd(), 0o644, byInitd)
		b.tree.text("/etc/group", b.accounts.group(), 0o644, byInitd)
	}
	// glibc has files and dns built in since 2.34: no library is loaded for these.
	b.tree.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n", 0o644, byInitd)
	b.tree.text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644, byInitd)
	return nil
}

// own applies what a package's script does about a file, if the image has it and the user did not place it.
func (b *builder) own(o debian.Ownership, c contribution) {
	if isVirtual(o.Path) {
		return
	}
	if b.tree[o.Path] == nil && o.Make {
		b.tree.put(&node{path: o.Path, mode: fs.ModeDir | 0o755, owner: "root", group: "root", by: c.by, from: c.Name + " " + c.Version})
	}
	for name, n := range b.tree {
		if name != o.Path && !(o.Recursive && strings.HasPrefix(name, o.Path+"/")) || n.given {
			continue
		}
		if o.Owner != "" && b.accounts.ensure(o.Owner, n.by) {
			n.owner = o.Owner
		}
		if o.Group != "" && b.accounts.ensureGroup(o.Group) {
			n.group = o.Group
		}
		if o.SetMode && n.mode.Type() != fs.ModeSymlink {
			n.mode = n.mode.Type() | o.Mode
		}
	}
}

// free returns the number for a new system account: the same name always gets the same number, unless two names of one
// image collide, because what is on its disks belongs to that number, and images are built again with other packages.
func (a *accounts) free(name string) uint32 {
	const first, count = 100, 800 // Debian Policy 9.2.2: 100-999 are for packages
	h := fnv.New32a()
	h.Write([]byte(name))
	taken := func(id uint32) bool {
		for _, u := range a.users {
			if u.uid == id {
				return true
			}
		}
		for _, g := range a.groups {
			if g.gid == id {
				return true
			}
		}
		return false
	}
	for n := range uint32(count) {
		if id := first + (h.Sum32()%count+n)%count; !taken(id) {
			return id
		}
	}
	return 0
}

// add makes an account with number id, unless it insists on another one.
func (a *accounts) add(w debian.Account, by string, id uint32) {
	if id == 0 && w.Name != "root" {
		id = a.free(w.Name)
	}
	if number, ok := static()[w.Name]; ok {
		id = number
	}
	gid := id
	if number, ok := staticGroups()[w.Name]; ok {
		gid = number
	}
	if w.UID != 0 {
		id, gid = uint32(w.UID), uint32(w.UID)
	}
	if w.GID != 0 {
		gid = uint32(w.GID)
	}
	switch g, ok := a.groups[w.Group]; {
	case w.Group == "" || w.Group == w.Name:
		if _, ok := a.groups[w.Name]; !ok && (w.User || len(w.Groups) == 0) {
			a.groups[w.Name] = group{gid: gid}
		}
		gid = a.groups[w.Name].gid
	case ok:
		gid = g.gid
	default:
		if !a.ensureGroup(w.Group) {
			a.groups[w.Group] = group{gid: a.free(w.Group)}
		}
		gid = a.groups[w.Group].gid
	}
	if _, ok := a.users[w.Name]; w.User && !ok {
		a.users[w.Name] = user{uid: id, gid: gid, gecos: w.Gecos, home: cmp.Or(w.Home, "/"), shell: cmp.Or(w.Shell, "/usr/sbin/nologin"), by: by}
	}
	for _, name := range w.Groups {
		if !a.ensureGroup(name) {
			a.groups[name] = group{gid: a.free(name)}
		}
		g := a.groups[name]
		if !slices.Contains(g.members, w.Name) {
			g.members = append(slices.Clone(g.members), w.Name)
			slices.Sort(g.members)
			a.groups[name] = g
		}
	}
}

// ensure tells whether there is a user of that name, and makes one that every Debian has.
func (a *accounts) ensure(name, by string) bool {
	if _, ok := a.users[name]; ok {
		return true
	}
	if _, ok := static()[name]; !ok {
		return false
	}
	w := debian.Account{Name: name, User: true, Gecos: name, Home: "/nonexistent"}
	if name == "nobody" {
		w.Group = "nogroup"
	}
	a.add(w, by, 1)
	return true
}

func (a *accounts) ensureGroup(name string) bool {
	if _, ok := a.groups[name]; ok {
		return true
	}
	gid, ok := staticGroups()[name]
	if !ok {
		gid, ok = static()[name]
	}
	if ok {
		a.groups[name] = group{gid: gid}
	}
	return ok
}

// ids returns the numbers of an owner and a group.
func (a *accounts) ids(owner, group string) (uid, gid uint32, err error) {
	if !a.ensure(owner, byInitd) || !a.ensureGroup(group) {
		return 0, 0, fmt.Errorf("it belongs to %s:%s, and no package of the image makes these accounts", owner, group)
	}
	return a.users[owner].uid, a.groups[group].gid, nil
}

// passwd is passwd(5), by number. Nobody has a password: there is no login.
func (a *accounts) passwd() string {
	var out strings.Builder
	names := slices.SortedFunc(maps.Keys(a.users), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.users[x].uid, a.users[y].uid), cmp.Compare(x, y))
	})
	for _, n := range names {
		u := a.users[n]
		fmt.Fprintf(&out, "%s:*:%d:%d:%s:%s:%s\n", n, u.uid, u.gid, u.gecos, u.home, u.shell)
	}
	return out.String()
}

// group is group(5), by number.
func (a *accounts) group() string {
	var out strings.Builder
	names := slices.SortedFunc(maps.Keys(a.groups), func(x, y string) int {
		return cmp.Or(cmp.Compare(a.groups[x].gid, a.groups[y].gid), cmp.Compare(x, y))
	})
	for _, n := range names {
		g := a.groups[n]
		fmt.Fprintf(&out, "%s:*:%d:%s\n", n, g.gid, strings.Join(g.members, ","))
	}
	return out.String()
}
