package kmod

import (
	"fmt"
	"slices"
	"strings"
)

// Subset returns the text files of depmod for a tree that holds only the modules of keep, by their file names there:
// a Module whose Path is as it shall be in the new tree (a file that was unpacked has lost its ".xz"). What is built in
// stays known as a whole. The result depends on nothing but x and keep.
func (x *Index) Subset(keep []Module) (map[string][]byte, error) {
	kept := map[string]string{}
	for _, m := range keep {
		if x.modules[m.Name] == nil || m.Builtin() {
			return nil, fmt.Errorf("subset of the modules of %s: %s is no module with a file", x.release, m.Name)
		}
		kept[m.Name] = m.Path
	}
	var dep, soft, weak, alias, symbols, builtin, modinfo strings.Builder
	for _, name := range x.files {
		if kept[name] == "" {
			continue
		}
		fmt.Fprintf(&dep, "%s:", kept[name])
		for _, n := range slices.Backward(x.modules[name].needs) {
			if kept[n] == "" {
				return nil, fmt.Errorf("subset of the modules of %s: %s needs %s, which is left out", x.release, name, n)
			}
			fmt.Fprintf(&dep, " %s", kept[n])
		}
		dep.WriteByte('\n')
		writeSoftdep(&soft, x.soft[name])
		if may := x.weak[name]; len(may) > 0 {
			fmt.Fprintf(&weak, "weakdep %s %s\n", name, strings.Join(may, " "))
		}
	}
	for _, a := range x.aliases.all() {
		if kept[a.module] != "" {
			fmt.Fprintf(&alias, "alias %s %s\n", a.pattern, a.module)
		}
	}
	for _, symbol := range sortedKeys(x.symbols) {
		for _, module := range x.symbols[symbol] {
			if kept[module] != "" {
				fmt.Fprintf(&symbols, "alias %s %s\n", symbol, module)
			}
		}
	}
	for _, name := range sortedKeys(x.builtin) {
		fmt.Fprintf(&builtin, "kernel/%s.ko\n", name)
		// One that lies in modules.dep as well has its line above; statements add up, so a second would double it.
		if s := x.soft[name]; kept[name] == "" && len(s.pre)+len(s.post) > 0 {
			var line strings.Builder
			writeSoftdep(&line, s)
			words := strings.TrimSpace(strings.TrimPrefix(line.String(), "softdep "+name))
			fmt.Fprintf(&modinfo, "%s.softdep=%s\x00", name, words)
		}
	}
	for _, a := range x.compiled.all() {
		fmt.Fprintf(&modinfo, "%s.alias=%s\x00", a.module, a.pattern)
	}
	files := map[string][]byte{}
	for name, text := range map[string]string{
		"modules.dep": dep.String(), "modules.softdep": soft.String(), "modules.weakdep": weak.String(),
		"modules.alias": alias.String(), "modules.symbols": symbols.String(),
		"modules.builtin": builtin.String(), "modules.builtin.modinfo": modinfo.String(),
	} {
		if text != "" || name == "modules.dep" {
			files[name] = []byte(text)
		}
	}
	return files, nil
}

func writeSoftdep(w *strings.Builder, s softdep) {
	if len(s.pre)+len(s.post) == 0 {
		return
	}
	fmt.Fprintf(w, "softdep %s", s.module)
	if len(s.pre) > 0 {
		fmt.Fprintf(w, " pre: %s", strings.Join(s.pre, " "))
	}
	if len(s.post) > 0 {
		fmt.Fprintf(w, " post: %s", strings.Join(s.post, " "))
	}
	w.WriteByte('\n')
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
