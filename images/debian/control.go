// Package debian obtains Debian packages and says what is in them: for building images, not for installing.
//
// It owns apt's index as far as an image needs it (a package's candidate version, what it depends on), the download with
// its cache, the content of a package as a tree of files, and what its maintainer scripts would do about accounts and
// ownership. It needs apt-cache, apt-get and dpkg-deb. It never installs, never runs a maintainer script, and never
// changes the machine that it runs on outside of its cache folder.
package debian

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Control is what apt's index says about one version of a package.
type Control struct {
	Name, Version, Architecture string
	// Depends lists what has to be installed with it (Depends and Pre-Depends): alternatives in the order of the
	// packagers' preference, without versions.
	Depends [][]string
	// SHA256 of the package's file, in hex; empty where no archive offers this version.
	SHA256 string
	// Size of the package's file, in bytes.
	Size int64
}

// File is the name that apt gives to the package's file.
func (c Control) File() string {
	return c.Name + "_" + strings.ReplaceAll(c.Version, ":", "%3a") + "_" + c.Architecture + ".deb"
}

// ParseControls reads paragraphs in the format of deb-control(5), as apt-cache show prints them.
func ParseControls(text string) ([]Control, error) {
	var list []Control
	for _, paragraph := range paragraphs(text) {
		c, err := parseControl(paragraph)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// paragraphs splits at empty lines and folds continuation lines.
func paragraphs(text string) []map[string]string {
	var list []map[string]string
	var fields map[string]string
	last := ""
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			fields, last = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if fields != nil && last != "" {
				fields[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if fields == nil {
				fields = map[string]string{}
				list = append(list, fields)
			}
			last = strings.ToLower(key)
			fields[last] = strings.TrimSpace(value)
		}
	}
	return list
}

func parseControl(fields map[string]string) (Control, error) {
	c := Control{Name: fields["package"], Version: fields["version"], Architecture: fields["architecture"], SHA256: fields["sha256"]}
	for _, part := range []string{c.Name, c.Version, c.Architecture} {
		// They make up a file's name.
		if part == "" || strings.ContainsAny(part, "/\x00 \n") || part[0] == '.' {
			return Control{}, fmt.Errorf("package %q, version %q, architecture %q: not a package's control paragraph", c.Name, c.Version, c.Architecture)
		}
	}
	if _, err := fmt.Sscan(fields["size"], &c.Size); err != nil && fields["size"] != "" {
		return Control{}, fmt.Errorf("package %s: size %q is not a number", c.Name, fields["size"])
	}
	c.Depends = append(parseDepends(fields["pre-depends"]), parseDepends(fields["depends"])...)
	return c, nil
}

// parseDepends reads a relationship field: groups between commas, alternatives between bars; a version in parentheses,
// an architecture in brackets and the ":any" behind a name are left out.
func parseDepends(field string) [][]string {
	var groups [][]string
	for group := range strings.SplitSeq(field, ",") {
		var names []string
		for alternative := range strings.SplitSeq(group, "|") {
			name, _, _ := strings.Cut(strings.TrimSpace(alternative), " ")
			name, _, _ = strings.Cut(name, "(")
			name, _, _ = strings.Cut(name, ":")
			if isPackageName(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			groups = append(groups, names)
		}
	}
	return groups
}

// isPackageName: Debian Policy 5.6.1. What passes is safe on a command line and in a path.
func isPackageName(name string) bool {
	if len(name) < 2 || strings.IndexByte("+-.", name[0]) >= 0 {
		return false
	}
	return !strings.ContainsFunc(name, func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("+-.", c))
	})
}

var errName = errors.New("a package's name is made of lower case letters, digits, dots, + and -")
