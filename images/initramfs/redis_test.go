package initramfs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/images/cpio"
	"initd/images/ldso"
)

// redis is the image of a small appliance: an encrypted ext4 volume and a redis-server with a configuration of its own.
func redis(t *testing.T) Spec {
	t.Helper()
	init, initd := programs(t)
	return Spec{
		Init: init, Initd: initd, ModulesDir: kernel(t), Cache: packages(t), Log: t.Logf,
		Texts:    []Text{{To: "/etc/initd/appliance.yaml", Content: []byte("apiVersion: initd/v1\n"), By: "the appliance"}},
		Files:    []File{{From: put(t, t.TempDir(), "redis.conf", "dir /srv\n"), To: "/etc/redis/redis.conf", Mode: 0o640, By: "image.files"}},
		Modules:  []Ask{{"dm-crypt", "luks/tank0"}, {"crypto-xts(aes)", "luks/tank0"}, {"fs-ext4", "mount/srv"}},
		Programs: []Ask{{"fsck.ext4", "mount/srv"}, {"/usr/bin/redis-cli", "service/redis"}, {"/bin/redis-server", "service/redis"}},
		Packages: []Ask{{"redis-server", "package redis-server"}},
		Users:    []Ask{{"redis", "service/redis"}},
	}
}

func TestAnImageWithRedisServerIsWholeAndComesOutTheSameTwice(t *testing.T) {
	spec := redis(t)
	m, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	root, names := unpack(t, m)
	for _, want := range []string{
		"init", "usr/bin/initd", "sbin", "etc/initd/appliance.yaml", "usr/bin/redis-server", "usr/bin/redis-cli",
		"usr/bin/redis-check-rdb", "usr/sbin/fsck.ext4", "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6",
		"usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "var/lib/redis", "var/log/redis", "etc/passwd", "dev/console",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "usr/share/doc") || strings.HasPrefix(name, "usr/share/man") || strings.HasSuffix(name, ".xz") {
			t.Errorf("%s has no place in an image", name)
		}
	}
	if n := checkPrograms(t, root); n < 20 {
		t.Errorf("only %d ELF files were looked at", n)
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/redis/redis.conf")); err != nil || string(b) != "dir /srv\n" {
		t.Errorf("the user's configuration: %q, %v", b, err)
	}
	if got := entry(t, m, "/etc/redis/redis.conf"); got.Owner != "root:root" || got.Mode != "0640" {
		t.Errorf("a script of the package changed the user's file: %+v", got)
	}
	if got := entry(t, m, "/var/lib/redis"); got.Owner != "redis:redis" || got.Mode != "0750" {
		t.Errorf("/var/lib/redis is %+v", got)
	}
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.Contains(string(passwd), "\nredis:*:120:120::/var/lib/redis:/usr/sbin/nologin\n") {
		t.Errorf("passwd: %s %v", passwd, err)
	}
	if got := entry(t, m, "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"); got.By != "service/redis" && got.By != "package redis-server" || !strings.HasPrefix(got.From, "libjemalloc2 ") {
		t.Errorf("libjemalloc is explained as %+v", got)
	}

	again, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.Files, again.Files); diff != "" {
		t.Errorf("the second build differs:\n%s", diff)
	}
	for _, c := range []cpio.Compression{cpio.None, cpio.Zstd} {
		if !bytes.Equal(written(t, m, c), written(t, again, c)) {
			t.Errorf("compression %d: the second build has other bytes", c)
		}
	}
}

func written(t *testing.T, m *Image, c cpio.Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkPrograms wants the interpreter and every needed library of each ELF file below root to be there, as the dynamic
// linker of a machine that has nothing else would look for them. It returns how many files it looked at.
func checkPrograms(t *testing.T, root string) int {
	t.Helper()
	inside, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	// Links of the image may be absolute, which os.Root refuses: follow them by hand.
	exists := func(name string) bool {
		for range 40 {
			name = strings.TrimPrefix(name, "/")
			info, err := inside.Lstat(name)
			if err != nil {
				return false
			}
			if info.Mode()&os.ModeSymlink == 0 {
				return true
			}
			target, err := inside.Readlink(name)
			if err != nil {
				return false
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(name), target)
			}
			name = target
		}
		return false
	}
	count := 0
	err = filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(name, ".ko") {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		at := strings.TrimPrefix(name, root)
		o, err := ldso.Read(f, at)
		if err != nil {
			return nil // texts and data
		}
		count++
		if o.Interpreter != "" && !exists(o.Interpreter) {
			t.Errorf("%s: its interpreter %s is not in the image", at, o.Interpreter)
		}
		for _, needed := range o.Needed {
			if !slices.ContainsFunc(o.Candidates(needed), exists) {
				t.Errorf("%s needs %s, which is not in the image", at, needed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
