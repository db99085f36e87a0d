package kmod

import (
	"fmt"
	"strings"
)

const usage = `Usage: modprobe [OPTION]... MODULE [PARAMETER=VALUE]...
       modprobe [OPTION]... -a MODULE...
       modprobe [OPTION]... -r MODULE...
Load or remove kernel modules and what they need. MODULE is a name or an alias.

  -a, --all             every argument is a module
  -r, --remove          remove instead of loading
  -D, --show-depends    only print what would be loaded, what is loaded already too
  -n, --dry-run         do nothing; with -v print what would be done
  -R, --resolve-alias   only print the names of the modules
  -b, --use-blacklist   the blacklist holds for a module's own name too
      --first-time      fail if the module is there (with -r: is not there) already
  -d, --dirname DIR     look in DIR/lib/modules
  -S, --set-version V   use the modules of kernel release V
  -s, --syslog          messages go to the kernel log
  -q, --quiet           no message about a module that is not known
  -v, --verbose         print what is done
`

// options is a command line of modprobe.
type options struct {
	remove, show, dry, resolve, blacklist, firstTime, syslog, quiet, verbose, help, version bool

	root, release string
	names         []string
	parameters    string
}

// parseOptions reads a command line as getopt_long does: options may be bundled, stand anywhere before --, have their
// value attached or following, and long ones have it after = or following.
func parseOptions(args []string) (options, error) {
	o := options{root: "/"}
	all := false
	flags := map[string]*bool{
		"a": &all, "all": &all, "r": &o.remove, "remove": &o.remove, "D": &o.show, "show-depends": &o.show,
		"n": &o.dry, "dry-run": &o.dry, "show": &o.dry, "R": &o.resolve, "resolve-alias": &o.resolve,
		"b": &o.blacklist, "use-blacklist": &o.blacklist, "first-time": &o.firstTime, "s": &o.syslog, "syslog": &o.syslog,
		"q": &o.quiet, "quiet": &o.quiet, "v": &o.verbose, "verbose": &o.verbose,
		"h": &o.help, "help": &o.help, "V": &o.version, "version": &o.version,
		// There are no install and remove commands here that could be ignored.
		"i": new(bool), "ignore-install": new(bool), "ignore-remove": new(bool),
	}
	values := map[string]*string{"d": &o.root, "dirname": &o.root, "S": &o.release, "set-version": &o.release}
	var words []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		next := func(name string) (string, error) {
			if i++; i == len(args) {
				return "", fmt.Errorf("option %s wants a value", name)
			}
			return args[i], nil
		}
		switch {
		case arg == "--":
			words = append(words, args[i+1:]...)
			i = len(args)
		case strings.HasPrefix(arg, "--"):
			name, value, given := strings.Cut(arg[2:], "=")
			if flag := flags[name]; flag != nil && len(name) > 1 && !given {
				*flag = true
				continue
			}
			to := values[name]
			if to == nil || len(name) == 1 {
				return o, fmt.Errorf("option --%s is not known here", name)
			}
			if !given {
				var err error
				if value, err = next(arg); err != nil {
					return o, err
				}
			}
			*to = value
		case len(arg) > 1 && arg[0] == '-':
			for j := 1; j < len(arg); j++ {
				name := arg[j : j+1]
				if flag := flags[name]; flag != nil {
					*flag = true
					continue
				}
				to := values[name]
				if to == nil {
					return o, fmt.Errorf("option -%s is not known here", name)
				}
				value := arg[j+1:]
				if value == "" {
					var err error
					if value, err = next("-" + name); err != nil {
						return o, err
					}
				}
				*to = value
				break
			}
		default:
			words = append(words, arg)
		}
	}
	o.names = words
	if !all && !o.remove && len(words) > 1 {
		o.names, o.parameters = words[:1], strings.Join(quoteParameters(words[1:]), " ")
	}
	return o, nil
}

// quoteParameters puts the quotes back that a shell took away: the kernel splits at white space outside of quotes.
func quoteParameters(list []string) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		if key, value, ok := strings.Cut(p, "="); ok && strings.ContainsAny(value, " \t") && !strings.Contains(value, `"`) {
			p = key + `="` + value + `"`
		}
		out = append(out, p)
	}
	return out
}
