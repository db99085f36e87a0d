package debian

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func script(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRedisMakesItsUserAndGetsItsFolders(t *testing.T) {
	accounts, ownerships := parseScript(script(t, "redis-tools.postinst"))
	wantAccounts := []Account{{Name: "redis", User: true, Home: "/var/lib/redis", Shell: "/usr/sbin/nologin"}}
	if diff := cmp.Diff(wantAccounts, accounts); diff != "" {
		t.Error(diff)
	}
	wantOwnerships := []Ownership{
		{Path: "/var/lib/redis", Owner: "redis", Group: "redis", Mode: 0o750, SetMode: true, Make: true},
		{Path: "/var/log/redis", Owner: "redis", Group: "redis", Mode: 0o750, SetMode: true, Make: true},
	}
	if diff := cmp.Diff(wantOwnerships, ownerships); diff != "" {
		t.Error(diff)
	}
	_, ownerships = parseScript(script(t, "redis-server.postinst"))
	want := []Ownership{{Path: "/etc/redis/redis.conf", Owner: "redis", Group: "redis", Mode: 0o640, SetMode: true}}
	if diff := cmp.Diff(want, ownerships); diff != "" {
		t.Errorf("dpkg-statoverride:\n%s", diff)
	}
}

func TestAGroupMadeFirstIsTheUsersOwn(t *testing.T) {
	accounts, ownerships := parseScript(script(t, "rabbitmq-server.postinst"))
	want := []Account{{Name: "rabbitmq", User: true, Group: "rabbitmq", Gecos: "RabbitMQ messaging server", Home: "/var/lib/rabbitmq", Shell: "/usr/sbin/nologin"}}
	if diff := cmp.Diff(want, mergeAccounts(accounts)); diff != "" {
		t.Error(diff)
	}
	wantOwnerships := []Ownership{
		{Path: "/var/lib/rabbitmq", Owner: "rabbitmq", Group: "rabbitmq", Mode: 0o750, SetMode: true, Make: true},
		{Path: "/etc/rabbitmq", Owner: "rabbitmq", Group: "rabbitmq"},
		{Path: "/etc/rabbitmq/enabled_plugins", Owner: "rabbitmq", Group: "rabbitmq"},
		{Path: "/var/lib/rabbitmq/mnesia", Mode: 0o750, SetMode: true},
	}
	if diff := cmp.Diff(wantOwnerships, ownerships); diff != "" {
		t.Error(diff)
	}
}

func TestSysusersAndTmpfilesAreRead(t *testing.T) {
	want := []Account{{Name: "tomcat", User: true, Gecos: "Apache Tomcat", Home: "/var/lib/tomcat", Shell: "/usr/sbin/nologin"}}
	if diff := cmp.Diff(want, parseSysusers(script(t, "tomcat10.sysusers"))); diff != "" {
		t.Error(diff)
	}
	more := parseSysusers("u! svc 210:store \"A service\" /srv -\ng store 211\nm svc disk\nr - 500-900\nu bad/name - -\n")
	wantMore := []Account{
		{Name: "svc", User: true, UID: 210, Group: "store", Gecos: "A service", Home: "/srv", Shell: "/usr/sbin/nologin"},
		{Name: "store", GID: 211}, {Name: "svc", Groups: []string{"disk"}},
	}
	if diff := cmp.Diff(wantMore, more); diff != "" {
		t.Error(diff)
	}
	wantFiles := []Ownership{{Path: "/var/log/tomcat10", Owner: "tomcat", Group: "adm", Mode: 0o770 | 1<<22, SetMode: true, Make: true}}
	got := parseTmpfiles(script(t, "tomcat10.tmpfiles") + "z /etc/%H 0600 x x -\nf /x 0644 - - -\n")
	if diff := cmp.Diff(wantFiles, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyConstantPathsAreTakenFromAScript(t *testing.T) {
	_, got := parseScript(script(t, "tomcat10.postinst"))
	var paths []string
	for _, o := range got {
		paths = append(paths, o.Path)
	}
	want := []string{
		"/etc/tomcat10/policy.d", "/var/lib/tomcat10/lib", "/etc/tomcat10/Catalina", "/etc/tomcat10/Catalina",
		"/var/lib/tomcat10/webapps", "/var/lib/tomcat10/webapps", "/var/log/tomcat10", "/var/log/tomcat10", "/var/cache/tomcat10", "/var/cache/tomcat10",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	if o := got[1]; o.Owner != "tomcat" || o.Group != "tomcat" || !o.Recursive {
		t.Errorf("chown -Rh: %+v", o)
	}
}

func TestAdduserInItsOtherForms(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       []Account
	}{
		{"without a group it is nogroup", `adduser --system --no-create-home daemonx`, []Account{{Name: "daemonx", User: true, Group: "nogroup", Home: "/nonexistent", Shell: "/usr/sbin/nologin"}}},
		{"a user joins a group", `adduser --quiet svc ssl-cert || true`, []Account{{Name: "svc", Groups: []string{"ssl-cert"}}}},
		{"values behind an equals sign", `id x >/dev/null 2>&1 || adduser --system --home=/x --shell=/bin/sh --uid=130 --group x`,
			[]Account{{Name: "x", User: true, UID: 130, Home: "/x", Shell: "/bin/sh"}}},
		{"useradd", `useradd -r -M -g store -G disk,tape -d /var/lib/s -c 'A:B' svc`, []Account{{Name: "svc", User: true, Group: "store", Groups: []string{"disk", "tape"}, Gecos: "A B", Home: "/var/lib/s", Shell: "/usr/sbin/nologin"}}},
		{"a comment", `# adduser --system x`, nil},
		{"a name that is not known", `adduser --system "$WHO"`, nil},
		{"a name that would break the file", `adduser --system 'x:0:0'`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := parseScript(test.line)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
