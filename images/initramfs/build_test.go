package initramfs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"initd/hw/kmod"
	"initd/images/cpio"
	"initd/images/debian"
)

// small asks for no packages: it needs no network.
func small(t *testing.T) Spec {
	t.Helper()
	init, initd := programs(t)
	return Spec{Init: init, Initd: initd, ModulesDir: kernel(t), Drivers: "none", Cache: t.TempDir()}
}

func TestTheImagesIndexKnowsItsModulesAndWhatIsBuiltIn(t *testing.T) {
	spec := small(t)
	spec.Modules = []Ask{{"dm-crypt", "luks/a"}, {"fs-xfs", "mount/b"}, {"fs-ext4", "mount/c"}, {"dm-crypt", "luks/d"}}
	m, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := unpack(t, m)
	x, err := kmod.Open(os.DirFS(filepath.Join(root, "usr/lib/modules", m.Release)), m.Release)
	if err != nil {
		t.Fatal(err)
	}
	r, err := x.Resolve("dm-crypt", "fs-xfs", "fs-ext4")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Load {
		b, err := os.ReadFile(filepath.Join(root, "usr/lib/modules", m.Release, s.Path))
		if err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) || !bytes.HasSuffix(b, []byte("~Module signature appended~\n")) {
			t.Errorf("%s is not the signed module: %v", s.Path, err)
		}
	}
	if _, err := x.Resolve("nvme-tcp"); err == nil {
		t.Error("nvme-tcp is known, and nobody asked for it")
	}
	dm := entry(t, m, "/usr/lib/modules/"+m.Release+"/kernel/drivers/md/dm-mod.ko")
	if dm.By != "luks/a" || dm.From != "kernel "+m.Release {
		t.Errorf("dm-mod is explained as %+v", dm)
	}
}

func TestDriverSetsGrow(t *testing.T) {
	last := -1
	for _, set := range DriverSets() {
		spec := small(t)
		spec.Drivers = set
		m, err := Build(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range m.Files {
			if strings.HasSuffix(f.Path, ".ko") {
				n++
				if f.By != "base: hardware" {
					t.Errorf("%s is asked for by %q", f.Path, f.By)
				}
			}
		}
		if n <= last {
			t.Errorf("%s has %d modules, the set before it %d", set, n, last)
		}
		last = n
	}
}

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	spec := small(t)
	spec.Initd = "/nonexistent/initd"
	spec.Modules = []Ask{{"zfs", "pool/tank"}, {"fs-reiserfs", "mount/old"}}
	spec.Programs = []Ask{{"no-such-tool", "mount/old"}}
	spec.Files = []File{{From: "/nonexistent/x", To: "/etc/x", By: "image.files (a.yaml:3)"}, {From: spec.Init, To: "etc/y", By: "image.files (a.yaml:4)"}}
	_, err := Build(t.Context(), spec)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"put /usr/bin/initd into the image for initd: stat /nonexistent/initd", "for pool/tank: kernel module zfs: lib/modules/6.", "for mount/old: kernel module fs-reiserfs",
		"mount/old wants the program no-such-tool: none of the image's packages", "put /etc/x into the image for image.files (a.yaml:3)", "has to be an absolute path",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestPrivateKeysAreRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		content []byte
		refused bool
	}{
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), true},
		{"encrypted PEM", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), true},
		{"OpenSSH", []byte("text before\n-----BEGIN OPENSSH PRIVATE KEY-----\n"), true},
		{"a key behind its certificate", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pub}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...), true},
		{"DER", der, true},
		{"DER, SEC 1", sec1, true},
		{"a certificate alone", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pub}), false},
		{"a public key", pub, false},
		{"a text that speaks of keys", []byte("the PRIVATE KEY is elsewhere\n"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := small(t)
			spec.ModulesDir = ""
			spec.Files = []File{{From: put(t, t.TempDir(), "file", string(test.content)), To: "/etc/file", Mode: 0o644, By: "image.files"}}
			_, err := Build(t.Context(), spec)
			if refused := err != nil && strings.Contains(err.Error(), "no secret and no identity"); refused != test.refused {
				t.Errorf("got %v", err)
			}
			if err != nil && bytes.Contains([]byte(err.Error()), []byte("MIG")) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestProgramsOfTheHostBringTheirLibraries(t *testing.T) {
	spec := small(t)
	spec.ModulesDir = ""
	spec.HostRoots = []string{"/"}
	spec.Programs = []Ask{{"fsck.ext4", "mount/a"}}
	m, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v; is the package e2fsprogs installed?", err)
	}
	root, names := unpack(t, m)
	if !slices.Contains(names, "usr/sbin/e2fsck") {
		t.Errorf("the link's target is missing: %v", names)
	}
	if n := checkPrograms(t, root); n < 6 {
		t.Errorf("only %d ELF files", n)
	}
	if got := entry(t, m, "/usr/sbin/e2fsck"); got.By != "mount/a" {
		t.Errorf("%+v", got)
	}
}

func TestAScriptThatIsAskedForBringsItsInterpreter(t *testing.T) {
	host := t.TempDir()
	if err := os.Chmod(put(t, host, "usr/bin/tool", "#!/usr/bin/env runner\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := small(t)
	spec.ModulesDir = ""
	spec.HostRoots = []string{host}
	spec.Programs = []Ask{{"tool", "service/x"}}
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "service/x wants the program runner") {
		t.Errorf("without it: %v", err)
	}
	put(t, host, "usr/bin/runner", "it runs\n")
	m, err := Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	entry(t, m, "/usr/bin/runner")
}

func TestTheSamePlaceTwiceIsAnError(t *testing.T) {
	spec := small(t)
	spec.ModulesDir = ""
	spec.Files = []File{{From: spec.Init, To: "/lib/x", Mode: 0o644, By: "a"}, {From: spec.Init, To: "/usr/lib/x", Mode: 0o644, By: "b"}, {From: spec.Init, To: "/init", Mode: 0o644, By: "c"}}
	_, err := Build(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "/usr/lib/x of the image is there already, for a") || !strings.Contains(err.Error(), "/init of the image is there already, for initd") {
		t.Errorf("got %v", err)
	}
}

func TestAServicesUserHasToBeMadeBySomebody(t *testing.T) {
	spec := small(t)
	spec.ModulesDir = ""
	spec.Users = []Ask{{"www-data", "service/web"}, {"store", "service/store"}}
	if _, err := Build(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "service/store runs as user store, whom no package of the image makes") {
		t.Errorf("got %v", err)
	}
}

func TestNumbersOfAccountsDoNotDependOnOtherPackages(t *testing.T) {
	numbers := func(names ...string) map[string]uint32 {
		a := &accounts{users: map[string]user{}, groups: map[string]group{}}
		for _, n := range names {
			a.add(debian.Account{Name: n, User: true}, "test", a.free(n))
		}
		got := map[string]uint32{}
		for n, u := range a.users {
			got[n] = u.uid
		}
		return got
	}
	alone, together := numbers("redis"), numbers("mysql", "rabbitmq", "redis", "tomcat")
	if alone["redis"] != together["redis"] {
		t.Errorf("redis is %d alone and %d with others", alone["redis"], together["redis"])
	}
	seen := map[uint32]string{}
	for n, id := range together {
		if id < 100 || id > 999 || seen[id] != "" {
			t.Errorf("%s has %d, as %q has", n, id, seen[id])
		}
		seen[id] = n
	}
}

func TestAnExplanationSumsUpByAsker(t *testing.T) {
	m := &Image{Release: "6.12", Notes: []string{"/usr/bin/x (from x 1) is a script for /bin/sh, which is not in the image"}, Files: []Entry{
		{Path: "/bin", Type: "link", Target: "usr/bin", By: "initd", From: "made"},
		{Path: "/init", Type: "file", Size: 1500, By: "initd", From: "init"},
		{Path: "/srv", Type: "folder", By: "initd", From: "made"},
		{Path: "/usr/sbin/e2fsck", Type: "file", Size: 356624, By: "mount/srv/tank0", From: "e2fsprogs 1.47.0-2+b2"},
	}}
	var out strings.Builder
	if err := m.Explain().Text(&out); err != nil {
		t.Fatal(err)
	}
	want := `SIZE    FILE              ASKED FOR BY     FROM
        /bin -> usr/bin   initd            made
1500    /init             initd            init
        /srv/             initd            made
356624  /usr/sbin/e2fsck  mount/srv/tank0  e2fsprogs 1.47.0-2+b2

  FILES  KIB
      1  349  mount/srv/tank0
      3    2  initd
      4  350  in all, before compression
note: /usr/bin/x (from x 1) is a script for /bin/sh, which is not in the image
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCompressionIsWhatTheKernelCanUnpack(t *testing.T) {
	for _, test := range []struct {
		name, config, word string
		want               cpio.Compression
		fails              string
	}{
		{name: "zstd if it can", config: "CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n", want: cpio.Zstd},
		{name: "else gzip", config: "CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n", want: cpio.Gzip},
		{name: "else not at all", config: "CONFIG_X=y\n", want: cpio.None},
		{name: "as it was said", config: "CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n", word: "gzip", want: cpio.Gzip},
		{name: "no is always possible", config: "CONFIG_X=y\n", word: "none", want: cpio.None},
		{name: "what it cannot is an error", config: "CONFIG_RD_GZIP=y\n", word: "zstd", fails: "has no CONFIG_RD_ZSTD=y"},
		{name: "an unknown word", config: "CONFIG_X=y\n", word: "bzip2", fails: "say zstd, gzip or none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "config", test.config)
			got, err := Compression(test.word, filepath.Join(root, "lib/modules/6.12-test"))
			if err != nil || test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("got %v, want %q", err, test.fails)
				}
				return
			}
			if got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
