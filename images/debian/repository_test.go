package debian

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func shared(t *testing.T) *Repository {
	t.Helper()
	dir, err := filepath.Abs("../../out/cache/debs")
	if err != nil {
		t.Fatal(err)
	}
	return &Repository{Cache: dir, Log: t.Logf}
}

func TestAPackageIsReadAsItIs(t *testing.T) {
	p, err := shared(t).Open(t.Context(), "redis-server")
	if err != nil {
		t.Fatal(err)
	}
	f, ok := p.Find("/usr/bin/redis-server")
	if !ok || f.Target != "redis-check-rdb" || f.Mode&os.ModeSymlink == 0 {
		t.Errorf("/usr/bin/redis-server: %+v", f)
	}
	f, ok = p.Find("/etc/redis/redis.conf")
	if !ok || f.Mode != 0o644 || f.Owner != "root" {
		t.Fatalf("/etc/redis/redis.conf: %+v", f)
	}
	b, err := os.ReadFile(p.Disk(f))
	if err != nil || int64(len(b)) != f.Size || !strings.HasPrefix(string(b), "# Redis configuration file") {
		t.Errorf("its content has %d bytes of %d: %v", len(b), f.Size, err)
	}
	if _, ok := p.Find("/usr/lib/systemd/system/redis-server.service"); !ok {
		t.Error("what is packaged below /lib is not found below /usr/lib")
	}
	if !strings.Contains(p.Scripts["postinst"], "dpkg-statoverride") {
		t.Errorf("scripts: %v", p.Scripts)
	}
	// From the cache alone, by another one.
	again, err := shared(t).Open(t.Context(), "redis-server")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Files, again.Files) {
		t.Error("read from the cache it has other files")
	}
}

func TestAClosureBeginsWithTheRootsAndHasWhatTheyNeed(t *testing.T) {
	list, err := shared(t).Closure(t.Context(), "redis-server", "e2fsprogs")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		if slices.Contains(names, c.Name) {
			t.Errorf("%s is there twice", c.Name)
		}
		names = append(names, c.Name)
	}
	if len(names) < 2 || names[0] != "redis-server" || names[1] != "e2fsprogs" {
		t.Errorf("it begins with %v", names)
	}
	for _, want := range []string{"redis-tools", "libc6", "libjemalloc2", "libext2fs2", "gcc-12-base"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %v", want, names)
		}
	}
}

func TestWhatAptDoesNotKnowIsAnUnknownPackage(t *testing.T) {
	var unknown *UnknownError
	if _, err := shared(t).Open(t.Context(), "no-such-package"); !errors.As(err, &unknown) || unknown.Name != "no-such-package" {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"--help", "a/b", "Redis", "x y", ""} {
		if _, err := shared(t).Open(t.Context(), name); !errors.Is(err, errName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWithoutTheArchiveTheErrorSaysSo(t *testing.T) {
	// Nobody listens there; apt takes the proxy from the environment.
	for _, name := range []string{"http_proxy", "https_proxy"} {
		t.Setenv(name, "http://127.0.0.1:9")
	}
	config := filepath.Join(t.TempDir(), "apt.conf")
	if err := os.WriteFile(config, []byte("Acquire::http::Proxy \"http://127.0.0.1:9\"; Acquire::https::Proxy \"http://127.0.0.1:9\";\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", config)
	r := &Repository{Cache: t.TempDir()}
	_, err := r.Open(t.Context(), "liblzf1")
	if err == nil || !strings.Contains(err.Error(), "fetch package liblzf1 3.6") || !strings.Contains(err.Error(), "this machine has to reach its Debian archive") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

func TestADamagedPackageInTheCacheIsFetchedAgain(t *testing.T) {
	r := shared(t)
	p, err := r.Open(t.Context(), "liblzf1")
	if err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(r.Cache, p.File())
	dir := t.TempDir()
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(filepath.Join(dir, p.File()), b, 0o644); err != nil {
		t.Fatal(err)
	}
	fetched := 0
	again := &Repository{Cache: dir, Log: func(string, ...any) { fetched++ }}
	if _, err := again.Open(t.Context(), "liblzf1"); err != nil || fetched != 1 {
		t.Errorf("fetched %d times: %v", fetched, err)
	}
}
