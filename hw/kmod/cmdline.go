package kmod

import "strings"

// Config is what was said about modules outside of their own files.
type Config struct {
	// Options are parameters by normalised module name, each "name=value" or "name".
	Options map[string][]string
	// Blacklist are modules that no alias may load; asked for by their own name they are loaded.
	Blacklist map[string]bool
	// Refused are modules that the kernel itself refuses whoever asks (module_blacklist=).
	Refused map[string]bool
}

// ParseCommandLine reads what the kernel command line says about modules: "MODULE.PARAMETER=VALUE",
// "modprobe.blacklist=A,B" and "module_blacklist=A,B". Nothing after a lone -- counts (kernel/params.c, parse_args).
func ParseCommandLine(line string) Config {
	c := Config{Options: map[string][]string{}, Blacklist: map[string]bool{}, Refused: map[string]bool{}}
	for _, arg := range arguments(line) {
		if arg == "--" {
			break
		}
		key, value, given := strings.Cut(arg, "=")
		if key == "module_blacklist" {
			addNames(c.Refused, value)
			continue
		}
		module, parameter, ok := strings.Cut(key, ".")
		if !ok || module == "" || parameter == "" {
			continue
		}
		if module == "modprobe" && parameter == "blacklist" {
			addNames(c.Blacklist, value)
			continue
		}
		if given {
			parameter += "=" + value
		}
		module = Normalize(module)
		c.Options[module] = append(c.Options[module], parameter)
	}
	return c
}

func addNames(set map[string]bool, list string) {
	for name := range strings.SplitSeq(strings.Trim(list, `"`), ",") {
		if name != "" {
			set[Normalize(name)] = true
		}
	}
}

// arguments splits as the kernel does (lib/cmdline.c, next_arg): at white space outside of double quotes. An argument
// that is quoted as a whole ("a.b=c d") has its quotes moved to the value (a.b="c d"), as modprobe passes it on.
func arguments(line string) []string {
	var list []string
	var arg strings.Builder
	quoted := false
	flush := func() {
		if arg.Len() > 0 {
			list = append(list, unquoteWhole(arg.String()))
		}
		arg.Reset()
	}
	for _, c := range []byte(line) {
		switch {
		case c == '"':
			quoted = !quoted
			arg.WriteByte(c)
		case !quoted && strings.IndexByte(" \t\n\v\f\r\x00", c) >= 0:
			flush()
		default:
			arg.WriteByte(c)
		}
	}
	flush()
	return list
}

func unquoteWhole(arg string) string {
	inner, ok := strings.CutPrefix(arg, `"`)
	if !ok {
		return arg
	}
	inner = strings.TrimSuffix(inner, `"`)
	if key, value, ok := strings.Cut(inner, "="); ok && strings.ContainsAny(value, " \t") && !strings.Contains(value, `"`) {
		return key + `="` + value + `"`
	}
	return inner
}
