package debian

import (
	"path"
	"strings"
	"testing"
)

func FuzzControls(f *testing.F) {
	f.Add(script(f, "show.txt"))
	f.Add("Package: a/../b\nVersion: 1\nArchitecture: all\n\n x\n:\nDepends: a|b,(c),\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseControls(text)
		if err != nil {
			return
		}
		for _, c := range list {
			if file := c.File(); path.Base(file) != file || strings.HasPrefix(file, ".") {
				t.Errorf("file %q leaves its folder", file)
			}
			for _, group := range c.Depends {
				for _, name := range group {
					if !isPackageName(name) {
						t.Errorf("dependency %q", name)
					}
				}
			}
		}
	})
}

// Whatever a package's scripts say, what comes of them can stand in /etc/passwd and names absolute paths.
func FuzzScripts(f *testing.F) {
	for _, name := range []string{"redis-tools.postinst", "redis-server.postinst", "rabbitmq-server.postinst", "tomcat10.postinst", "tomcat10.sysusers", "tomcat10.tmpfiles", "mariadb.tmpfiles"} {
		f.Add(script(f, name))
	}
	f.Add("A='$B'\nB=$A$A\nadduser --system --gecos \"a\nb:c\" --home $A x\nchown -R a.b /lib/x\nchmod 4755 /bin/y; addgroup --gid 70000 z")
	f.Fuzz(func(t *testing.T, text string) {
		accounts, ownerships := parseScript(text)
		accounts = append(accounts, parseSysusers(text)...)
		ownerships = append(ownerships, parseTmpfiles(text)...)
		for _, a := range mergeAccounts(accounts) {
			for _, name := range append([]string{a.Name, a.primary()}, a.Groups...) {
				if !isAccount(name) {
					t.Errorf("account %q in %+v", name, a)
				}
			}
			if strings.ContainsAny(a.Gecos+a.Home+a.Shell, ":\n") {
				t.Errorf("%+v breaks the lines of passwd", a)
			}
		}
		for _, o := range ownerships {
			if !path.IsAbs(o.Path) || path.Clean(o.Path) != o.Path {
				t.Errorf("path %q", o.Path)
			}
		}
	})
}
