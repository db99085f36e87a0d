package debian

import (
	"path"
	"slices"
	"strings"
)

// parseScript reads what a maintainer script does about accounts and ownership.
func parseScript(script string) (accounts []Account, ownerships []Ownership) {
	for _, words := range commands(script) {
		args := words[1:]
		switch path.Base(words[0]) {
		case "adduser", "addgroup":
			if a, ok := parseAdduser(path.Base(words[0]), args); ok {
				accounts = append(accounts, a)
			}
		case "useradd", "groupadd":
			if a, ok := parseUseradd(path.Base(words[0]), args); ok {
				accounts = append(accounts, a)
			}
		case "chown", "chgrp", "chmod":
			ownerships = append(ownerships, parseChange(path.Base(words[0]), args)...)
		case "dpkg-statoverride":
			if o, ok := parseStatoverride(args); ok {
				ownerships = append(ownerships, o)
			}
		}
	}
	// First the folders of an account's own, so that what the script says plainly has the last word.
	var own []Ownership
	for _, a := range accounts {
		if !a.User {
			continue
		}
		for _, dir := range []string{"/var/lib/", "/var/log/", "/var/cache/"} {
			if dir += a.Name; dir == a.Home || mentions(script, dir) {
				own = append(own, Ownership{Path: dir, Owner: a.Name, Group: a.primary(), Mode: 0o750, SetMode: true, Make: true})
			}
		}
	}
	return accounts, append(own, ownerships...)
}

func (a Account) primary() string {
	if a.Group != "" {
		return a.Group
	}
	return a.Name
}

// mentions tells whether dir stands in text as a whole path.
func mentions(text, dir string) bool {
	for rest := text; ; {
		i := strings.Index(rest, dir)
		if i < 0 {
			return false
		}
		rest = rest[i+len(dir):]
		if rest == "" || strings.IndexByte(" \t\n\"';)", rest[0]) >= 0 {
			return true
		}
	}
}

// eachOption goes through the words of a command line. next gives an option's value: what stands behind its =, or the next word, which
// is no option then.
func eachOption(args []string, do func(word, option string, next func() string)) {
	for i := 0; i < len(args); i++ {
		option, value, given := strings.Cut(args[i], "=")
		do(args[i], option, func() string {
			if given {
				return value
			}
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		})
	}
}

// parseAdduser reads adduser(8). Without --group and --ingroup a system user's group is nogroup.
func parseAdduser(program string, args []string) (Account, bool) {
	a := Account{User: program == "adduser"}
	ownGroup, system := false, false
	var names []string
	eachOption(args, func(word, option string, next func() string) {
		switch option {
		case "--home":
			a.Home = next()
		case "--shell":
			a.Shell = next()
		case "--gecos", "--comment":
			a.Gecos = next()
		case "--uid":
			a.UID = number(next())
		case "--gid":
			a.GID = number(next())
		case "--ingroup":
			a.Group = next()
		case "--conf", "--firstuid", "--lastuid", "--firstgid", "--lastgid", "--add_extra_groups":
			next()
		case "--group":
			ownGroup = true
		case "--system":
			system = true
		default:
			if !strings.HasPrefix(option, "-") {
				names = append(names, word)
			}
		}
	})
	if len(names) == 0 || !isAccount(names[0]) {
		return a, false
	}
	a.Name = names[0]
	switch {
	case len(names) == 2 && a.User && isAccount(names[1]): // adduser USER GROUP
		return Account{Name: a.Name, Groups: names[1:]}, true
	case len(names) > 1:
		return a, false
	case !a.User:
		return Account{Name: a.Name, GID: a.GID}, true
	case ownGroup && !system: // adduser --group NAME is addgroup
		return Account{Name: a.Name, GID: a.GID}, true
	case a.Group == "" && a.GID == 0 && !ownGroup:
		a.Group = "nogroup"
	}
	return a.clean("/nonexistent")
}

// parseUseradd reads useradd(8) and groupadd(8).
func parseUseradd(program string, args []string) (Account, bool) {
	a := Account{User: program == "useradd"}
	eachOption(args, func(word, option string, next func() string) {
		switch option {
		case "-d", "--home-dir", "--home":
			a.Home = next()
		case "-s", "--shell":
			a.Shell = next()
		case "-c", "--comment":
			a.Gecos = next()
		case "-u", "--uid":
			a.UID = number(next())
		case "-g", "--gid":
			if g := next(); number(g) > 0 {
				a.GID = number(g)
			} else if a.User {
				a.Group = g
			}
		case "-G", "--groups":
			a.Groups = slices.DeleteFunc(strings.Split(next(), ","), func(g string) bool { return !isAccount(g) })
		case "-b", "--base-dir", "-K", "-k", "-e", "-f", "-p", "--key", "--skel", "--expiredate", "--inactive", "--password":
			next()
		default:
			if !strings.HasPrefix(option, "-") {
				a.Name = word
			}
		}
	})
	if !a.User {
		return Account{Name: a.Name, GID: a.GID}, isAccount(a.Name)
	}
	return a.clean("/nonexistent")
}

// parseChange reads chown, chgrp and chmod with an octal mode; other modes, and paths that are not constant, are passed over.
func parseChange(program string, args []string) []Ownership {
	var base Ownership
	var words []string
	for _, w := range args {
		switch {
		case strings.HasPrefix(w, "--"):
			base.Recursive = base.Recursive || w == "--recursive"
		case strings.HasPrefix(w, "-"):
			base.Recursive = base.Recursive || strings.ContainsRune(w, 'R')
		default:
			words = append(words, w)
		}
	}
	if len(words) < 2 {
		return nil
	}
	switch program {
	case "chown":
		owner, group, ok := strings.Cut(words[0], ":")
		if !ok {
			owner, group, _ = strings.Cut(words[0], ".")
		}
		if owner != "" && !isAccount(owner) || group != "" && !isAccount(group) {
			return nil
		}
		base.Owner, base.Group = owner, group
	case "chgrp":
		if !isAccount(words[0]) {
			return nil
		}
		base.Group = words[0]
	case "chmod":
		if base.setMode(words[0]); !base.SetMode || base.Recursive {
			return nil
		}
	}
	var list []Ownership
	for _, p := range words[1:] {
		if path.IsAbs(p) && !strings.ContainsAny(p, "$*?[`") {
			o := base
			o.Path = Merged(p)
			list = append(list, o)
		}
	}
	return list
}

// parseStatoverride reads "dpkg-statoverride --update --add OWNER GROUP MODE PATH".
func parseStatoverride(args []string) (Ownership, bool) {
	add := slices.Contains(args, "--add")
	words := slices.DeleteFunc(slices.Clone(args), func(w string) bool { return strings.HasPrefix(w, "-") })
	if !add || len(words) != 4 || !isAccount(words[0]) || !isAccount(words[1]) || !path.IsAbs(words[3]) || strings.ContainsAny(words[3], "$*?[`") {
		return Ownership{}, false
	}
	o := Ownership{Path: Merged(words[3]), Owner: words[0], Group: words[1]}
	o.setMode(words[2])
	return o, o.SetMode
}
