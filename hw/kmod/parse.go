package kmod

import (
	"fmt"
	"path"
	"strings"
)

// lines calls each with the fields of every line that is neither empty nor a comment.
func lines(text string, each func(fields []string) error) error {
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		if err := each(fields); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// dependency is a line of modules.dep: a module's file, and the files of all it needs, directly or not. Read backwards
// the list is an order in which they can be loaded.
type dependency struct {
	file  string
	needs []string
}

// parseDep reads modules.dep (modules.dep(5)): "FILE: FILE FILE ...".
func parseDep(text string) ([]dependency, error) {
	var list []dependency
	err := lines(text, func(fields []string) error {
		file, ok := strings.CutSuffix(fields[0], ":")
		if !ok || !isName(nameOf(file)) {
			return fmt.Errorf("%q is not FILE and a colon", fields[0])
		}
		for _, f := range append([]string{file}, fields[1:]...) {
			if path.IsAbs(f) || path.Clean(f) != f || strings.HasPrefix(f, "../") {
				return fmt.Errorf("%q is no path below the folder of the modules", f)
			}
		}
		list = append(list, dependency{file: file, needs: fields[1:]})
		return nil
	})
	return list, err
}

// alias is a line of modules.alias or modules.symbols, or an alias from modules.builtin.modinfo.
type alias struct {
	pattern string // normalised
	module  string // normalised
}

// parseAlias reads modules.alias and modules.symbols: "alias PATTERN MODULE".
func parseAlias(text string) ([]alias, error) {
	var list []alias
	err := lines(text, func(fields []string) error {
		if fields[0] != "alias" {
			return nil // other words of modprobe.d(5) have no meaning here
		}
		if len(fields) < 3 {
			return fmt.Errorf("%q is not: alias PATTERN MODULE", strings.Join(fields, " "))
		}
		last := len(fields) - 1
		list = append(list, alias{normalizeAlias(strings.Join(fields[1:last], " ")), Normalize(fields[last])})
		return nil
	})
	return list, err
}

// softdep is what a module would like to have loaded before and after it; names are modules or aliases.
type softdep struct {
	module    string
	pre, post []string
}

// parseSoftdep reads modules.softdep: "softdep MODULE pre: NAME ... post: NAME ...".
func parseSoftdep(text string) ([]softdep, error) {
	var list []softdep
	err := lines(text, func(fields []string) error {
		if fields[0] != "softdep" {
			return nil
		}
		if len(fields) < 2 {
			return fmt.Errorf("softdep of no module")
		}
		list = append(list, softdepOf(fields[1], fields[2:]))
		return nil
	})
	return list, err
}

// softdepOf sorts the words after a module's name. Words before the first pre: or post: have no meaning to modprobe
// (some modules carry such a list by mistake) and are left out.
func softdepOf(module string, words []string) softdep {
	s := softdep{module: Normalize(module)}
	var to *[]string
	for _, w := range words {
		switch {
		case w == "pre:":
			to = &s.pre
		case w == "post:":
			to = &s.post
		case to != nil:
			*to = append(*to, w)
		}
	}
	return s
}

// weakdep is what a module may ask for once it runs: an image has to carry it, nobody loads it beforehand.
type weakdep struct {
	module string
	may    []string
}

// parseWeakdep reads modules.weakdep, which depmod writes since kmod 33: "weakdep MODULE NAME ...".
func parseWeakdep(text string) ([]weakdep, error) {
	var list []weakdep
	err := lines(text, func(fields []string) error {
		if fields[0] != "weakdep" {
			return nil
		}
		if len(fields) < 2 {
			return fmt.Errorf("weakdep of no module")
		}
		list = append(list, weakdep{Normalize(fields[1]), fields[2:]})
		return nil
	})
	return list, err
}

// parseBuiltin reads modules.builtin: a path a line, as if the module had a file.
func parseBuiltin(text string) []string {
	var names []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			if name := nameOf(line); isName(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// parseModinfo reads modules.builtin.modinfo (scripts/Makefile.vmlinux): "MODULE.KEY=VALUE", each ended by a zero byte.
// Only aliases and soft dependencies matter here; descriptions, parameters and licences are passed over.
func parseModinfo(text string) (aliases []alias, softdeps []softdep) {
	for entry := range strings.SplitSeq(text, "\x00") {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		module, key, ok := strings.Cut(key, ".")
		if !ok || !isName(module) || value == "" {
			continue
		}
		switch key {
		case "alias":
			aliases = append(aliases, alias{normalizeAlias(value), Normalize(module)})
		case "softdep":
			softdeps = append(softdeps, softdepOf(module, strings.Fields(value)))
		}
	}
	return aliases, softdeps
}

// isName tells whether a string can be a module's name (MODULE_NAME_LEN is 56, include/linux/module.h): one word,
// and no path.
func isName(name string) bool {
	return len(name) > 0 && len(name) < 56 && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == '/' || c == 0x7f })
}
