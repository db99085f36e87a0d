package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// UnknownError is a package that apt's index does not have.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("package %s: apt knows no version of it that could be downloaded; check the spelling, or run apt-get update", e.Name)
}

// Repository is the Debian archive as this machine's apt is set up for it, with a cache of what was fetched. It is not
// safe for concurrent use.
type Repository struct {
	// Cache is a folder that holds package files by their names, and those unpacked.
	Cache string
	// Log, if set, hears what is being fetched.
	Log func(format string, args ...any)

	known  map[string]Control
	absent map[string]bool
	opened map[string]*Package
}

// Control returns what the index says about packages; a name that it does not have is missing in the answer.
func (r *Repository) Control(ctx context.Context, names ...string) (map[string]Control, error) {
	var ask []string
	for _, n := range names {
		if !isPackageName(n) {
			return nil, fmt.Errorf("package %q: %w", n, errName)
		}
		if _, ok := r.known[n]; !ok && !r.absent[n] && !slices.Contains(ask, n) {
			ask = append(ask, n)
		}
	}
	if r.known == nil {
		r.known, r.absent = map[string]Control{}, map[string]bool{}
	}
	if len(ask) > 0 {
		// Its status is not 0 when one of the names is unknown; what it printed is good all the same.
		options, err := r.aptOptions()
		if err != nil {
			return nil, err
		}
		out, err := run(ctx, "", "apt-cache", slices.Concat(options, []string{"show", "--no-all-versions", "--"}, ask)...)
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return nil, fmt.Errorf("ask apt about packages: %w", err)
		}
		list, err := ParseControls(out)
		if err != nil {
			return nil, fmt.Errorf("read apt's index: %w", err)
		}
		for _, c := range list {
			if _, ok := r.known[c.Name]; !ok && c.SHA256 != "" {
				r.known[c.Name] = c
			}
		}
		for _, n := range ask {
			_, ok := r.known[n]
			r.absent[n] = !ok
		}
	}
	answer := map[string]Control{}
	for _, n := range names {
		if c, ok := r.known[n]; ok {
			answer[n] = c
		}
	}
	return answer, nil
}

// Closure returns roots and all that they depend on, breadth first: what is near comes early. Of alternatives the first
// that the index has is taken; names that nothing in the index has (virtual packages) are passed over.
func (r *Repository) Closure(ctx context.Context, roots ...string) ([]Control, error) {
	var list []Control
	seen := map[string]bool{}
	for level := roots; len(level) > 0; {
		known, err := r.Control(ctx, level...)
		if err != nil {
			return nil, err
		}
		var wanted [][]string
		for _, n := range level {
			if c, ok := known[n]; ok && !seen[n] {
				seen[n] = true
				list = append(list, c)
				wanted = append(wanted, c.Depends...)
			}
		}
		var all []string
		for _, group := range wanted {
			all = append(all, group...)
		}
		if known, err = r.Control(ctx, all...); err != nil {
			return nil, err
		}
		level = nil
		for _, group := range wanted {
			if slices.ContainsFunc(group, func(n string) bool { return seen[n] }) {
				continue
			}
			if i := slices.IndexFunc(group, func(n string) bool { _, ok := known[n]; return ok }); i >= 0 && !slices.Contains(level, group[i]) {
				level = append(level, group[i])
			}
		}
	}
	return list, nil
}

// Open returns the content of a package's candidate version, fetched and unpacked into the cache if it is not there.
func (r *Repository) Open(ctx context.Context, name string) (*Package, error) {
	if p := r.opened[name]; p != nil {
		return p, nil
	}
	known, err := r.Control(ctx, name)
	if err != nil {
		return nil, err
	}
	c, ok := known[name]
	if !ok {
		return nil, &UnknownError{Name: name}
	}
	file, err := r.fetch(ctx, c)
	if err != nil {
		return nil, err
	}
	p, err := unpack(ctx, c, file, filepath.Join(r.Cache, "unpacked"))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	if r.opened == nil {
		r.opened = map[string]*Package{}
	}
	r.opened[name] = p
	return p, nil
}

// Opened returns what Open has returned so far, by name.
func (r *Repository) Opened() map[string]*Package { return r.opened }

// fetch returns the package's file in the cache; one that is not what the index says is fetched again.
func (r *Repository) fetch(ctx context.Context, c Control) (string, error) {
	file := filepath.Join(r.Cache, c.File())
	if sum, err := hash(file); err == nil && sum == c.SHA256 {
		return file, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(r.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make the package cache: %w", err)
	}
	work, err := os.MkdirTemp(r.Cache, "fetch-*")
	if err != nil {
		return "", fmt.Errorf("make room in the package cache: %w", err)
	}
	defer os.RemoveAll(work)
	if r.Log != nil {
		r.Log("fetching %s %s (%d KiB)", c.Name, c.Version, (c.Size+1023)/1024)
	}
	options, err := r.aptOptions()
	if err != nil {
		return "", err
	}
	// Without the sandbox user, who could not write into our folder.
	options = append(options, "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download", c.Name+"="+c.Version)
	if _, err := run(ctx, work, "apt-get", options...); err != nil {
		return "", fmt.Errorf("fetch package %s %s: %w; this machine has to reach its Debian archive (or run apt-get update, if its lists are old)", c.Name, c.Version, err)
	}
	got := filepath.Join(work, c.File())
	sum, err := hash(got)
	if err != nil {
		return "", fmt.Errorf("fetch package %s: %w", c.Name, err)
	}
	if sum != c.SHA256 {
		return "", fmt.Errorf("fetch package %s %s: what came has the checksum %s, the index says %s; run apt-get update", c.Name, c.Version, sum, c.SHA256)
	}
	return file, os.Rename(got, file)
}

// aptOptions gives apt a cache of its own: containers have theirs switched off, and parsing all lists anew takes apt a
// second for each call. It also works for users who may not write to the system's.
func (r *Repository) aptOptions() ([]string, error) {
	dir, err := filepath.Abs(filepath.Join(r.Cache, "apt"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "archives", "partial"), 0o755); err != nil {
		return nil, fmt.Errorf("make the package cache: %w", err)
	}
	return []string{"-o", "Dir::Cache=" + dir, "-o", "Dir::Cache::pkgcache=pkgcache.bin", "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin"}, nil
}

func hash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// run returns a program's standard output. Its error has the last line that the program wrote to standard error.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not on this machine: packages are put into images on a Debian machine", program)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		said := strings.TrimSpace(stderr.String())
		if i := strings.LastIndexByte(said, '\n'); i >= 0 {
			said = said[i+1:]
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", program, err, said)
	}
	return stdout.String(), nil
}
