package supervise

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// account is who a service runs as.
type account struct {
	uid, gid uint32
	groups   []uint32
	env      []string // HOME and so on
}

// lookup resolves names by /etc/passwd and /etc/group. A user that is a
// number needs no entry there.
func lookup(name, group string) (account, error) {
	a := account{}
	if name != "" && name != "root" {
		u, err := user.Lookup(name)
		if err != nil {
			u, err = numeric(name, err)
		}
		if err != nil {
			return a, fmt.Errorf("user %s: %w; it has to be in /etc/passwd", name, err)
		}
		if a.uid, err = number(u.Uid); err != nil {
			return a, fmt.Errorf("user %s: %w", name, err)
		}
		if a.gid, err = number(u.Gid); err != nil {
			return a, fmt.Errorf("user %s: %w", name, err)
		}
		if ids, err := u.GroupIds(); err == nil {
			for _, id := range ids {
				if n, err := number(id); err == nil {
					a.groups = append(a.groups, n)
				}
			}
		}
		a.env = []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	}
	if group == "" {
		return a, nil
	}
	if n, err := number(group); err == nil {
		a.gid = n
		return a, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return a, fmt.Errorf("group %s: %w; it has to be in /etc/group", group, err)
	}
	a.gid, err = number(g.Gid)
	return a, err
}

func numeric(name string, unknown error) (*user.User, error) {
	if _, err := number(name); err != nil {
		return nil, unknown
	}
	u, err := user.LookupId(name)
	if id := user.UnknownUserIdError(0); errors.As(err, &id) {
		return &user.User{Uid: name, Gid: name, Username: name, HomeDir: "/"}, nil
	}
	return u, err
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
