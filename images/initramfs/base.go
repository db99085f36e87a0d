package initramfs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
)

const byInitd = "initd"

// addBase puts in the two programs and what every image has.
func (b *builder) addBase(context.Context) error {
	var errs []error
	for _, p := range []struct{ from, to string }{{b.spec.Init, "/init"}, {b.spec.Initd, "/usr/bin/initd"}} {
		n, err := hostFile(p.from, p.to, 0o755, byInitd)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		// Two machines that build the same program have it in different places.
		n.from = path.Base(p.from)
		b.tree.put(n)
		b.needed = append(b.needed, need{path: n.path, by: byInitd, strict: true})
	}
	// As on a merged Debian: programs know their files by the short paths.
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		b.tree[`/`+dir] = &node{path: "/" + dir, mode: fs.ModeSymlink | 0o777, owner: "root", group: "root", target: "usr/" + dir, by: byInitd, from: "made"}
		b.tree.dir("/usr/"+dir, 0o755, byInitd)
	}
	// The orchestrator makes /usr/sbin/modprobe, a link to initd: in the image the kernel would start it dozens of times before.
	for _, dir := range []string{"/dev", "/etc", "/mnt", "/proc", "/run", "/srv", "/sys", "/usr", "/var", "/var/lib", "/var/log", "/var/cache", "/var/tmp"} {
		b.tree.dir(dir, 0o755, byInitd)
	}
	b.tree.dir("/root", 0o700, byInitd)
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		delete(b.tree, dir)
		b.tree.dir(dir, 0o777|fs.ModeSticky, byInitd)
	}
	b.tree.link("/var/run", "../run", byInitd)
	// The kernel opens the console before it runs /init, which mounts /dev (init/main.c, console_on_rootfs).
	for _, d := range []struct {
		name         string
		mode         fs.FileMode
		major, minor uint32
	}{{"console", 0o600, 5, 1}, {"null", 0o666, 1, 3}} {
		b.tree.put(&node{path: "/dev/" + d.name, mode: fs.ModeDevice | fs.ModeCharDevice | d.mode, owner: "root", group: "root", major: d.major, minor: d.minor, by: byInitd, from: "made"})
	}
	return errors.Join(errs...)
}

func (b *builder) addTexts(context.Context) error {
	var errs []error
	for _, t := range b.spec.Texts {
		if key := privateKey(t.Content); key != "" {
			errs = append(errs, secretError(t.To, key))
			continue
		}
		b.tree.text(t.To, string(t.Content), 0o644, t.By)
	}
	return errors.Join(errs...)
}

// addFiles puts in what the user named, before any package: a user's configuration replaces the packaged one.
func (b *builder) addFiles(context.Context) error {
	var errs []error
	for _, f := range b.spec.Files {
		if !path.IsAbs(f.To) {
			errs = append(errs, fmt.Errorf("put %s into the image for %s: the place in the image has to be an absolute path", f.To, f.By))
			continue
		}
		n, err := hostFile(f.From, f.To, f.Mode, f.By)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if key, err := privateKeyIn(f.From, n.size); err != nil {
			errs = append(errs, err)
			continue
		} else if key != "" {
			errs = append(errs, secretError(f.From, key))
			continue
		}
		n.given = true
		if !b.tree.put(n) {
			errs = append(errs, fmt.Errorf("put %s into the image for %s: %s of the image is there already, for %s", f.From, f.By, n.path, b.tree[n.path].by))
			continue
		}
		b.needed = append(b.needed, need{path: n.path, by: f.By, strict: true})
	}
	return errors.Join(errs...)
}

// secretError says why an image never has keys.
func secretError(file, what string) error {
	return fmt.Errorf("%s holds %s: an image has no secret and no identity, because whoever has the image would have it too; put it on the state disk, or into a second archive that is given to this one machine", file, what)
}

var pemKey = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----`)

// maxKeyFile is more than any file of keys has, in bytes; larger files are searched for PEM only.
const maxKeyFile = 64 << 10

// privateKeyIn says what private key a file holds, if any.
func privateKeyIn(file string, size int64) (string, error) {
	if size > maxKeyFile*64 {
		return "", nil // no configuration: a program, a medium
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return privateKey(content), nil
}

func privateKey(content []byte) string {
	if m := pemKey.Find(content); m != nil {
		return "a private key (" + string(bytes.Trim(m, "-")) + ")"
	}
	if len(content) > maxKeyFile || len(content) < 16 || content[0] != 0x30 { // DER: SEQUENCE
		return ""
	}
	if _, err := x509.ParsePKCS8PrivateKey(content); err == nil {
		return "a private key (DER, PKCS #8)"
	}
	if _, err := x509.ParsePKCS1PrivateKey(content); err == nil {
		return "a private key (DER, PKCS #1)"
	}
	if _, err := x509.ParseECPrivateKey(content); err == nil {
		return "a private key (DER, SEC 1)"
	}
	return ""
}
